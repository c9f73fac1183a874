;; Meets `unreachable`.

;;; policy
(func $misbehave (result i32) unreachable)
