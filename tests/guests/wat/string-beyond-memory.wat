;; Returns a reason that its memory ends in the midst of.

;;; policy
(func $misbehave (result i32)
  (i32.store8 (i32.const 1024) (i32.const 1))
  (i32.store (i32.const 1028) (i32.const 2048))
  (i32.store (i32.const 1032) (i32.const 0x7fffffff))
  (i32.const 1024))
