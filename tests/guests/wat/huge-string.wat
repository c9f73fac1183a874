;; Returns a reason of 7 MiB.

;;; policy
(func $misbehave (result i32)
  (drop (memory.grow (i32.const 112)))
  (i32.store8 (i32.const 1024) (i32.const 1))
  (i32.store (i32.const 1028) (i32.const 2048))
  (i32.store (i32.const 1032) (i32.const 0x700000))
  (i32.const 1024))
