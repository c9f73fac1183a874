;; Grows a table by a thousand elements, without end.

;;; policy
(table $own 0 funcref)
(func $misbehave (result i32)
  (loop $for-ever
    (drop (table.grow $own (ref.null func) (i32.const 1000)))
    (br $for-ever))
  unreachable)
