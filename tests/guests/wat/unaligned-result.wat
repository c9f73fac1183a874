;; Returns the address of a result that no result can have.

;;; policy
(func $misbehave (result i32) (i32.const 513))
