;; Asks for a header whose name lies beyond its memory.

;;; policy
(func $misbehave (result i32)
  (call $header (i32.const 0xffff0000) (i32.const 100) (i32.const 1024))
  (call $behave))
