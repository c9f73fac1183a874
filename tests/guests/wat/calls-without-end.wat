;; Asks for the path again and again: nearly all its time passes within the host.

;;; policy
(func $misbehave (result i32)
  (loop $for-ever
    (global.set $next (i32.const 4096))
    (call $path (i32.const 1024))
    (br $for-ever))
  unreachable)
