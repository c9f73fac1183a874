;; Returns the address of a result that lies beyond its memory.

;;; policy
(func $misbehave (result i32) (i32.const 0xfffffff0))
