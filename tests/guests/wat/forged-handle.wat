;; Drops a handle of the host that it was never given.

;;; imports
(import "wasi:io/poll@0.2.0" (instance $poll
  (export "pollable" (type (sub resource)))))
(alias export $poll "pollable" (type $pollable))

;;; lowered
(core func $drop-pollable (canon resource.drop $pollable))

;;; instance
(export "drop" (func $drop-pollable))

;;; host
(import "host" "drop" (func $drop-pollable (param i32)))

;;; policy
(func $misbehave (result i32)
  (call $drop-pollable (i32.const 77))
  (call $behave))
