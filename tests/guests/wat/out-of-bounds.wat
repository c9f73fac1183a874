;; Reads beyond its memory.

;;; policy
(func $misbehave (result i32)
  (drop (i64.load (i32.const 0xffffffff)))
  (call $behave))
