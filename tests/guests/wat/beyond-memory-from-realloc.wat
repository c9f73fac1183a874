;; `realloc` grants what is not there.

;;; realloc
(if (global.get $evil) (then (return (i32.const 0xfffffff0))))
(call $grant (local.get $align) (local.get $size))

;;; policy
(func $misbehave (result i32) (call $ask) (call $behave))
