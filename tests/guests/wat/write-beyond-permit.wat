;; Writes 64 KiB to its standard output at once, sixteen times what `check-write` permits.

;;; imports
(import "wasi:io/error@0.2.0" (instance $error
  (export "error" (type (sub resource)))))
(alias export $error "error" (type $error-handle))
(import "wasi:io/streams@0.2.0" (instance $streams
  (alias outer 1 $error-handle (type $outer))
  (export "error" (type $error (eq $outer)))
  (type $failures (variant (case "last-operation-failed" (own $error)) (case "closed")))
  (export "stream-error" (type $stream-error (eq $failures)))
  (export "output-stream" (type $stream (sub resource)))
  (export "[method]output-stream.write" (func
    (param "self" (borrow $stream)) (param "contents" (list u8))
    (result (result (error $stream-error)))))))
(alias export $streams "output-stream" (type $stream))
(import "wasi:cli/stdout@0.2.0" (instance $stdout
  (alias outer 1 $stream (type $outer))
  (export "output-stream" (type $own (eq $outer)))
  (export "get-stdout" (func (result (own $own))))))

;;; lowered
(core func $get-stdout (canon lower (func $stdout "get-stdout")))
(core func $write
  (canon lower (func $streams "[method]output-stream.write") (memory $memory)))

;;; instance
(export "get-stdout" (func $get-stdout))
(export "write" (func $write))

;;; host
(import "host" "get-stdout" (func $get-stdout (result i32)))
(import "host" "write" (func $write (param i32 i32 i32 i32)))

;;; policy
(func $misbehave (result i32)
  ;; Lines, each of which the host would have to look at.
  (memory.fill (i32.const 0x10000) (i32.const 10) (i32.const 0x10000))
  (call $write (call $get-stdout) (i32.const 0x10000) (i32.const 0x10000) (i32.const 1024))
  (call $behave))
