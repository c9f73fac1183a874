;; Asks for a header whose name is not UTF-8.

;;; policy
(func $misbehave (result i32)
  (i32.store (i32.const 2048) (i32.const 0x80fffec3))
  (call $header (i32.const 2048) (i32.const 4) (i32.const 1024))
  (call $behave))
