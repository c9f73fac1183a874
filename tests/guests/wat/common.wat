;; What both kinds of policy have.

;;; space
;; The memory and what grants it, apart from the policy: functions of the host are lowered with both.
(core module $Space
  (memory (export "memory") 2)
  ;; Whether a decision about an evil path is under way.
  (global $evil (export "evil") (mut i32) (i32.const 0))
  ;; Where the next grant begins; each decision begins anew.
  (global $next (export "next") (mut i32) (i32.const 4096))
  ;; For a `realloc` that calls the policy.
  (type $callback (func))
  (table $callbacks (export "callbacks") 1 funcref)
  (func $grant (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (local.get $at))
  (func (export "realloc")
    (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
    (; realloc ;)))
(core instance $space (instantiate $Space))
(alias core export $space "memory" (core memory $memory))
(alias core export $space "realloc" (core func $realloc))

;;; realloc
(call $grant (local.get $align) (local.get $size))

;;; common
(import "space" "memory" (memory 2))
(import "space" "evil" (global $evil (mut i32)))
(import "space" "next" (global $next (mut i32)))
(import "space" "callbacks" (table $callbacks 1 funcref))
(import "host" "path" (func $path (param i32)))
(import "host" "header" (func $header (param i32 i32 i32)))

;;; exports
(data (i32.const 0) "writerhost")
(func $ask (call $header (i32.const 6) (i32.const 4) (i32.const 1024)))
(func (export "configure") (result i32) (i32.const 512))
(func (export "decide") (result i32)
  (global.set $next (i32.const 4096))
  (global.set $evil (i32.const 0))
  (call $path (i32.const 1024))
  (if (i32.ge_u (i32.load (i32.const 1028)) (i32.const 5))
    (then
      ;; "/evi", "l"
      (if (i32.and
          (i32.eq (i32.load (i32.load (i32.const 1024))) (i32.const 0x6976652f))
          (i32.eq (i32.load8_u offset=4 (i32.load (i32.const 1024))) (i32.const 0x6c)))
        (then
          (global.set $evil (i32.const 1))
          (return (call $misbehave))))))
  (call $behave))
(func (export "after") (param i32)
  (if (global.get $evil) (then (; after ;))))

;;; lifecycle
;; A type that is exported has to have its name where a function uses it: hence the component around it.
(type $config-error
  (record (field "pointer" string) (field "message" string) (field "suggestion" (option string))))
(func $configure (result (result (error (list $config-error))))
  (canon lift (core func $policy "configure") (memory $memory) (realloc $realloc)))
(component $Lifecycle
  (type $own
    (record (field "pointer" string) (field "message" string) (field "suggestion" (option string))))
  (import "import-type-config-error" (type $imported (eq $own)))
  (import "import-func-configure"
    (func $configure (result (result (error (list $imported))))))
  (export $exported "config-error" (type $own))
  (export "configure" (func $configure) (func (result (result (error (list $exported)))))))
(instance $lifecycle (instantiate $Lifecycle
  (with "import-type-config-error" (type $config-error))
  (with "import-func-configure" (func $configure))))
(export "orchestrator:policy/lifecycle@0.1.0" (instance $lifecycle))
