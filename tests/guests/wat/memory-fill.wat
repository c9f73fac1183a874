;; Fills its whole memory, again and again: one instruction, which nothing interrupts.

;;; policy
(func $misbehave (result i32)
  (drop (memory.grow (i32.const 124)))
  (loop $for-ever
    (memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 0x10000)))
    (br $for-ever))
  unreachable)
