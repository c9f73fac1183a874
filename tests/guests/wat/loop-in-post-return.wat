;; Answers well, and never returns from what the host calls then.

;;; policy
(func $misbehave (result i32) (call $behave))

;;; after
(loop $for-ever (br $for-ever))
