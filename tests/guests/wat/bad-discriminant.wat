;; Returns a result that is neither `ok` nor `err`.

;;; policy
(func $misbehave (result i32)
  (i32.store8 (i32.const 1024) (i32.const 2))
  (i32.const 1024))
