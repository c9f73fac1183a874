;; Answers well, and traps in what the host calls then.

;;; policy
(func $misbehave (result i32) (call $behave))

;;; after
unreachable
