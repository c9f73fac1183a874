//! Artefacts made of a good component's bytes, or of none.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The first eight bytes of every component.
const PREAMBLE: &[u8] = b"\0asm\x0d\0\x01\0";

/// Of component sections, a core module and a nested component.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

pub(crate) fn gzipped(component: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip");
    let mut gzip = gzip.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let component = component.to_vec();
    let writing = std::thread::spawn(move || input.write_all(&component).unwrap());
    let output = gzip.wait_with_output().unwrap();
    writing.join().unwrap();
    output.stdout
}

/// Without what follows the section that the middle is in.
pub(crate) fn cut_behind_a_section(component: &[u8]) -> Vec<u8> {
    let largest = largest_section(component);
    component[..largest.end].to_vec()
}

/// With this byte in the middle of its code, many times.
pub(crate) fn overwritten(component: &[u8], byte: u8) -> Vec<u8> {
    let code = largest_section(component);
    let middle = code.start + code.len() / 2;
    let mut bytes = component.to_vec();
    bytes[middle..middle + 64].fill(byte);
    bytes
}

/// The contents of the largest section: of a policy, that is the module with its code.
fn largest_section(component: &[u8]) -> std::ops::Range<usize> {
    let mut place = PREAMBLE.len();
    let mut largest = 0..0;
    while place < component.len() {
        let id = component[place];
        let (length, bytes) = leb128(&component[place + 1..]);
        let contents = place + 1 + bytes..place + 1 + bytes + length;
        place = contents.end;
        if id == CORE_MODULE && contents.len() > largest.len() {
            largest = contents;
        }
    }
    largest
}

/// Components within components.
pub(crate) fn nested(depth: usize) -> Vec<u8> {
    // From the inside: each level's length counts all within.
    let mut heads = Vec::with_capacity(depth);
    let mut length = PREAMBLE.len();
    for _ in 0..depth {
        let mut head = PREAMBLE.to_vec();
        head.push(COMPONENT);
        head.extend_from_slice(&to_leb128(length));
        length += head.len();
        heads.push(head);
    }
    let mut bytes: Vec<u8> = heads.into_iter().rev().flatten().collect();
    bytes.extend_from_slice(PREAMBLE);
    bytes
}

/// What the gateway that has this cache has compiled from some policy: native code.
pub(crate) fn native(cache: &Path) -> Vec<u8> {
    /// The sum that the gateway puts in front of the code.
    const SUM_BYTES: usize = 32;
    let files = fs::read_dir(cache).unwrap().flatten().map(|file| file.path());
    let compiled = files.filter(|path| path.extension().is_some_and(|it| it == "cwasm"));
    let path = compiled.min().expect("the gateway keeps what it compiles");
    fs::read(path).unwrap().split_off(SUM_BYTES)
}

/// The same behind a component's first bytes.
pub(crate) fn in_disguise(native: &[u8]) -> Vec<u8> {
    [PREAMBLE, native].concat()
}

/// The same with one instruction changed.
pub(crate) fn altered(native: &[u8]) -> Vec<u8> {
    let mut bytes = native.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn leb128(bytes: &[u8]) -> (usize, usize) {
    let (mut value, mut read) = (0, 0);
    loop {
        value |= usize::from(bytes[read] & 0x7f) << (7 * read);
        read += 1;
        if bytes[read - 1] & 0x80 == 0 {
            return (value, read);
        }
    }
}

fn to_leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
