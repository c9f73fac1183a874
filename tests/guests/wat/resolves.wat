;; Looks up the address of `localhost`. Traps where it may.

;;; imports
(import "wasi:sockets/network@0.2.0" (instance $network
  (export "network" (type (sub resource)))
  (type $codes (enum
    "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
    "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
    "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused"
    "connection-reset" "connection-aborted" "datagram-too-large" "name-unresolvable"
    "temporary-resolver-failure" "permanent-resolver-failure"))
  (export "error-code" (type (eq $codes)))))
(alias export $network "network" (type $handle))
(alias export $network "error-code" (type $code))
(import "wasi:sockets/instance-network@0.2.0" (instance $instance-network
  (alias outer 1 $handle (type $h))
  (export "network" (type $network (eq $h)))
  (export "instance-network" (func (result (own $network))))))
(import "wasi:sockets/ip-name-lookup@0.2.0" (instance $lookup
  (alias outer 1 $handle (type $h))
  (export "network" (type $network (eq $h)))
  (alias outer 1 $code (type $c))
  (export "error-code" (type $code (eq $c)))
  (export "resolve-address-stream" (type $stream (sub resource)))
  (export "resolve-addresses" (func
    (param "network" (borrow $network)) (param "name" string)
    (result (result (own $stream) (error $code)))))))

;;; lowered
(core func $network (canon lower (func $instance-network "instance-network")))
(core func $resolve (canon lower (func $lookup "resolve-addresses") (memory $memory)))
(core func $drop-network (canon resource.drop $handle))

;;; instance
(export "network" (func $network))
(export "resolve" (func $resolve))
(export "drop-network" (func $drop-network))

;;; host
(import "host" "network" (func $network (result i32)))
(import "host" "resolve" (func $resolve (param i32 i32 i32 i32)))
(import "host" "drop-network" (func $drop-network (param i32)))

;;; policy
(data (i32.const 2048) "localhost")
(func $misbehave (result i32)
  (local $network i32)
  (local.set $network (call $network))
  (call $resolve (local.get $network) (i32.const 2048) (i32.const 9) (i32.const 1024))
  (if (i32.eqz (i32.load8_u (i32.const 1024))) (then unreachable))
  (call $drop-network (local.get $network))
  (call $behave))
