;; `realloc` never returns: the host calls it to hand over a header.

;;; realloc
(if (global.get $evil) (then (loop $for-ever (br $for-ever))))
(call $grant (local.get $align) (local.get $size))

;;; policy
(func $misbehave (result i32) (call $ask) (call $behave))
