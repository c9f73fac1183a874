;; Returns a reason that is not UTF-8.

;;; policy
(func $misbehave (result i32)
  (i32.store8 (i32.const 1024) (i32.const 1))
  (i32.store (i32.const 1028) (i32.const 2048))
  (i32.store (i32.const 1032) (i32.const 4))
  (i32.store (i32.const 2048) (i32.const 0x80fffec3))
  (i32.const 1024))
