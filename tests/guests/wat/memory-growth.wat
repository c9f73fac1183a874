;; Grows its memory page by page, without end.

;;; policy
(func $misbehave (result i32)
  (loop $for-ever
    (i32.store (i32.mul (memory.grow (i32.const 1)) (i32.const 0x10000)) (i32.const 1))
    (br $for-ever))
  unreachable)
