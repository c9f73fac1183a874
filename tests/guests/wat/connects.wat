;; Connects to 127.0.0.1. Traps where it may.

;;; imports
(import "wasi:sockets/network@0.2.0" (instance $network
  (export "network" (type (sub resource)))
  (type $codes (enum
    "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
    "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
    "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused"
    "connection-reset" "connection-aborted" "datagram-too-large" "name-unresolvable"
    "temporary-resolver-failure" "permanent-resolver-failure"))
  (export "error-code" (type (eq $codes)))
  (type $families (enum "ipv4" "ipv6"))
  (export "ip-address-family" (type (eq $families)))
  (type $v4 (tuple u8 u8 u8 u8))
  (export "ipv4-address" (type $ipv4 (eq $v4)))
  (type $v6 (tuple u16 u16 u16 u16 u16 u16 u16 u16))
  (export "ipv6-address" (type $ipv6 (eq $v6)))
  (type $place4 (record (field "port" u16) (field "address" $ipv4)))
  (export "ipv4-socket-address" (type $at4 (eq $place4)))
  (type $place6 (record
    (field "port" u16) (field "flow-info" u32) (field "address" $ipv6) (field "scope-id" u32)))
  (export "ipv6-socket-address" (type $at6 (eq $place6)))
  (type $place (variant (case "ipv4" $at4) (case "ipv6" $at6)))
  (export "ip-socket-address" (type (eq $place)))))
(alias export $network "network" (type $handle))
(alias export $network "error-code" (type $code))
(alias export $network "ip-address-family" (type $family))
(alias export $network "ip-socket-address" (type $address))
(import "wasi:sockets/instance-network@0.2.0" (instance $instance-network
  (alias outer 1 $handle (type $h))
  (export "network" (type $network (eq $h)))
  (export "instance-network" (func (result (own $network))))))
(import "wasi:sockets/tcp@0.2.0" (instance $tcp
  (alias outer 1 $handle (type $h))
  (export "network" (type $network (eq $h)))
  (alias outer 1 $code (type $c))
  (export "error-code" (type $code (eq $c)))
  (alias outer 1 $address (type $a))
  (export "ip-socket-address" (type $address (eq $a)))
  (export "tcp-socket" (type $socket (sub resource)))
  (export "[method]tcp-socket.start-connect" (func
    (param "self" (borrow $socket)) (param "network" (borrow $network))
    (param "remote-address" $address) (result (result (error $code)))))))
(alias export $tcp "tcp-socket" (type $socket))
(import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
  (alias outer 1 $code (type $c))
  (export "error-code" (type $code (eq $c)))
  (alias outer 1 $family (type $f))
  (export "ip-address-family" (type $family (eq $f)))
  (alias outer 1 $socket (type $s))
  (export "tcp-socket" (type $socket (eq $s)))
  (export "create-tcp-socket" (func
    (param "address-family" $family) (result (result (own $socket) (error $code)))))))

;;; lowered
(core func $network (canon lower (func $instance-network "instance-network")))
(core func $create (canon lower (func $create "create-tcp-socket") (memory $memory)))
(core func $act (canon lower (func $tcp "[method]tcp-socket.start-connect") (memory $memory)))
(core func $drop-socket (canon resource.drop $socket))
(core func $drop-network (canon resource.drop $handle))

;;; instance
(export "network" (func $network))
(export "create" (func $create))
(export "act" (func $act))
(export "drop-socket" (func $drop-socket))
(export "drop-network" (func $drop-network))

;;; host
(import "host" "network" (func $network (result i32)))
(import "host" "create" (func $create (param i32 i32)))
(import "host" "act" (func $act
  (param i32 i32) (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (param i32)))
(import "host" "drop-socket" (func $drop-socket (param i32)))
(import "host" "drop-network" (func $drop-network (param i32)))

;;; policy
(func $misbehave (result i32)
  (local $network i32)
  (local.set $network (call $network))
  (call $create (i32.const 0) (i32.const 1024))
  ;; Without a socket there is nothing to be had.
  (if (i32.eqz (i32.load8_u (i32.const 1024)))
    (then
      (call $act (i32.load (i32.const 1028)) (local.get $network)
        ;; 127.0.0.1:80, and nothing of what an IPv6 address would have
        (i32.const 0) (i32.const 80)
        (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 1032))
      (if (i32.eqz (i32.load8_u (i32.const 1032))) (then unreachable))
      (call $drop-socket (i32.load (i32.const 1028)))))
  (call $drop-network (local.get $network))
  (call $behave))
