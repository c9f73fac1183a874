;; A routing policy: forwards to `writer`, and misbehaves on paths that begin with `/evil`.
(component
  (import "orchestrator:policy/exchange@0.1.0" (instance $exchange
    (export "path" (func (result string)))
    (export "header" (func (param "name" string) (result (option (list u8)))))))
  (import "orchestrator:policy/answer@0.1.0" (instance $answer
    (export "forward" (func (param "service" string)))))
  (; imports ;)

  (; space ;)
  (core func $path (canon lower (func $exchange "path") (memory $memory) (realloc $realloc)))
  (core func $header (canon lower (func $exchange "header") (memory $memory) (realloc $realloc)))
  (core func $forward (canon lower (func $answer "forward") (memory $memory)))
  (; lowered ;)

  (core module $Policy
    (; common ;)
    (import "host" "forward" (func $forward (param i32 i32)))
    (; host ;)
    (func $answer (call $forward (i32.const 0) (i32.const 6)))
    (func $behave (result i32) (call $answer) (i32.const 512))
    (; policy ;)
    (; exports ;))
  (core instance $policy (instantiate $Policy
    (with "space" (instance $space))
    (with "host" (instance
      (export "path" (func $path))
      (export "header" (func $header))
      (export "forward" (func $forward))
      (; instance ;)))))

  (; lifecycle ;)
  (func $route (result (result (error string)))
    (canon lift (core func $policy "decide") (memory $memory) (realloc $realloc)
      (post-return (core func $policy "after"))))
  (instance $routing (export "route" (func $route)))
  (export "orchestrator:policy/routing@0.1.0" (instance $routing)))
