;; Fills 256 MiB, again and again: one instruction that takes many ticks.

;;; policy
(func $misbehave (result i32)
  (drop (memory.grow (i32.const 4094)))
  (loop $for-ever
    (memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 0x10000)))
    (br $for-ever))
  unreachable)
