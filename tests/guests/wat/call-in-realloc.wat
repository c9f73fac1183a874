;; `realloc` calls the host, which waits for it at the time.

;;; realloc
(if (global.get $evil) (then (call_indirect $callbacks (type $callback) (i32.const 0))))
(call $grant (local.get $align) (local.get $size))

;;; policy
(elem (table $callbacks) (i32.const 0) func $callback)
(func $callback (call $path (i32.const 1024)))
(func $misbehave (result i32) (call $ask) (call $behave))
