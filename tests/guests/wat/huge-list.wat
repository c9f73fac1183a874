;; Hands over a list of 1.7 million handles.

;;; imports
(import "wasi:io/poll@0.2.0" (instance $poll
  (export "pollable" (type $pollable (sub resource)))
  (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))

;;; lowered
(core func $poll (canon lower (func $poll "poll") (memory $memory) (realloc $realloc)))

;;; instance
(export "poll" (func $poll))

;;; host
(import "host" "poll" (func $poll (param i32 i32 i32)))

;;; policy
(func $misbehave (result i32)
  (drop (memory.grow (i32.const 112)))
  (call $poll (i32.const 0x10000) (i32.const 0x1a0000) (i32.const 1024))
  (call $behave))
