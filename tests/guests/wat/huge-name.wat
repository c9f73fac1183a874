;; Asks for a header whose name is 7 MiB long.

;;; policy
(func $misbehave (result i32)
  (drop (memory.grow (i32.const 112)))
  (call $header (i32.const 0x10000) (i32.const 0x700000) (i32.const 1024))
  (call $behave))
