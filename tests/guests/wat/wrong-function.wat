;; Calls a function through a table as one of another type.

;;; policy
(type $other (func (param i64 i64) (result i64)))
(elem (table $callbacks) (i32.const 0) func $answer)
(func $misbehave (result i32)
  (drop (call_indirect $callbacks (type $other) (i64.const 1) (i64.const 2) (i32.const 0)))
  (call $behave))
