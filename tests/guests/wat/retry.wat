;; A retry policy: one further attempt, at once; and misbehaves on paths that begin with `/evil`.
(component
  (import "orchestrator:policy/exchange@0.1.0" (instance $exchange
    (export "path" (func (result string)))
    (export "header" (func (param "name" string) (result (option (list u8)))))))
  (import "orchestrator:policy/failure@0.1.0" (instance $failure
    (export "number" (func (result u32)))))
  (import "orchestrator:policy/retry-answer@0.1.0" (instance $retry-answer
    (export "again" (func (param "delay-ms" u64)))))
  (; imports ;)

  (; space ;)
  (core func $path (canon lower (func $exchange "path") (memory $memory) (realloc $realloc)))
  (core func $header (canon lower (func $exchange "header") (memory $memory) (realloc $realloc)))
  (core func $number (canon lower (func $failure "number")))
  (core func $again (canon lower (func $retry-answer "again")))
  (; lowered ;)

  (core module $Policy
    (; common ;)
    (import "host" "number" (func $number (result i32)))
    (import "host" "again" (func $again (param i64)))
    (; host ;)
    (func $answer (call $again (i64.const 0)))
    (func $behave (result i32)
      (if (i32.eq (call $number) (i32.const 1)) (then (call $answer)))
      (i32.const 512))
    (; policy ;)
    (; exports ;))
  (core instance $policy (instantiate $Policy
    (with "space" (instance $space))
    (with "host" (instance
      (export "path" (func $path))
      (export "header" (func $header))
      (export "number" (func $number))
      (export "again" (func $again))
      (; instance ;)))))

  (; lifecycle ;)
  (func $judge (result (result (error string)))
    (canon lift (core func $policy "decide") (memory $memory) (realloc $realloc)
      (post-return (core func $policy "after"))))
  (instance $retry (export "judge" (func $judge)))
  (export "orchestrator:policy/retry@0.1.0" (instance $retry)))
