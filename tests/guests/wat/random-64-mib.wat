;; Asks for 64 MiB of random bytes at once.

;;; imports
(import "wasi:random/random@0.2.0" (instance $random
  (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))

;;; lowered
(core func $random
  (canon lower (func $random "get-random-bytes") (memory $memory) (realloc $realloc)))

;;; instance
(export "random" (func $random))

;;; host
(import "host" "random" (func $random (param i64 i32)))

;;; policy
(func $misbehave (result i32)
  (call $random (i64.const 0x4000000) (i32.const 1024))
  (call $behave))
