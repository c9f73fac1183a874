;; Answers once more when its answer has been read.

;;; policy
(func $misbehave (result i32) (call $behave))

;;; after
(call $answer)
