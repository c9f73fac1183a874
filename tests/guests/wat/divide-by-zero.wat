;; Divides by zero.

;;; policy
(func $misbehave (result i32) (i32.div_u (i32.const 512) (global.get $zero)))
(global $zero (mut i32) (i32.const 0))
