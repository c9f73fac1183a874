;; Takes handles of the host and keeps them.

;;; imports
(import "wasi:io/poll@0.2.0" (instance $poll
  (export "pollable" (type (sub resource)))))
(alias export $poll "pollable" (type $pollable))
(import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
  (alias outer 1 $pollable (type $outer))
  (export "pollable" (type $own (eq $outer)))
  (export "subscribe-duration" (func (param "when" u64) (result (own $own))))))

;;; lowered
(core func $subscribe (canon lower (func $clock "subscribe-duration")))

;;; instance
(export "subscribe" (func $subscribe))

;;; host
(import "host" "subscribe" (func $subscribe (param i64) (result i32)))

;;; policy
(func $misbehave (result i32)
  (loop $for-ever (drop (call $subscribe (i64.const 1))) (br $for-ever))
  unreachable)
