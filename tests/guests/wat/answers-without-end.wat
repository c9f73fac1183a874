;; Answers again and again.

;;; policy
(func $misbehave (result i32)
  (loop $for-ever (call $answer) (br $for-ever))
  unreachable)
