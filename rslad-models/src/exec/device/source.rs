//! The kernels' source, compiled for the processor and run on what whole networks have launched: what each wrote
//! must be what its twin wrote, to the bit.
//!
//! The compiler is the machine's C++ compiler, with products and sums kept apart; where there is none the test says
//! so. Swish alone has room for rounding: the processor's exponential is not the twins'.

use super::launch::{Kernel, SLAB};
use super::twin::{Given, Launched, Memory, SIGNATURES, SOURCE, Twin};
use super::{frozen, stepped, training};
use crate::classifier::{ClosureObjective, Objective};
use crate::device::Precision;
use crate::graph::{Graph, GraphBuilder, NodeId, Op, Pad};
use crate::network::Network;
use crate::randomness::{Key, Purpose};
use candle_core::{Device, Tensor};
use half::bf16;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Every op: a border that differs by side, strides, a depthwise convolution, a sum, both curves.
fn graph() -> Graph {
    let (mut g, x) = GraphBuilder::new(3);
    let x = g.normalize(x, &[0.4, 0.5, 0.6], &[0.2, 0.3, 0.4]);
    let uneven = Pad { left: 0, right: 1, top: 0, bottom: 1 };
    let conv = |g: &mut GraphBuilder, x: NodeId, name: &str, stride, pad, groups| {
        let out = if groups > 1 { groups } else { 6 };
        g.conv_with(x, name, Op::Conv2d { out, kernel: 3, stride, pad, groups })
    };
    let x = conv(&mut g, x, "a", 1, Pad::all(1), 1);
    let x = g.batch_norm(x, "a_norm");
    let x = g.relu(x);
    let y = conv(&mut g, x, "b", 1, Pad::all(1), 6);
    let y = g.batch_norm(y, "b_norm");
    let x = g.add(x, y);
    let x = g.silu(x);
    let x = conv(&mut g, x, "c", 2, uneven, 1);
    let x = g.batch_norm(x, "c_norm");
    let x = g.silu(x);
    let x = conv(&mut g, x, "d", 2, Pad::all(1), 6);
    g.head(x, "linear", 4)
}

fn drawn(shape: &[usize], what: &'static str) -> Tensor {
    let mut draws = Key::new(1, Purpose::named(what)).stream(0);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| draws.symmetric()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// How far two tensors are apart, by their norms.
fn away(a: &Tensor, b: &Tensor) -> f32 {
    let norm = |t: Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    norm((a - b).unwrap()) / norm(b.clone())
}

/// Everything that a frozen network, a training step and an attack in train mode launch, and a projected step.
fn launches() -> Vec<Launched> {
    let record = Arc::new(Mutex::new(Vec::new()));
    let twin_in = |precision| Twin { record: Some(Arc::clone(&record)), precision };
    let twin = || twin_in(Precision::F32);
    let network = Network::of_graph(graph(), 1).unwrap();
    let params = network.params().present();
    let (x, dlogits) = (drawn(&[9, 3, 10, 9], "images"), drawn(&[9, 4], "dlogits")); // 810 rows: two levels of sums
    const { assert!(9 * 10 * 9 > SLAB) };

    let frozen = frozen::Frozen::lowered(twin(), network.graph_handle(), &params).unwrap().unwrap();
    let objective = ClosureObjective(|_: &[u32], z: &Tensor| Ok(z.sqr()?.sum(1)?));
    let objectives: [&dyn Objective; 1] = [&objective];
    let exact = frozen.gradients(&x, &objectives, &|t| Ok(t.clone())).unwrap().swap_remove(0);
    let narrow = frozen::Frozen::lowered(twin_in(Precision::Bf16), network.graph_handle(), &params).unwrap();
    let near = narrow.unwrap().gradients(&x, &objectives, &|t| Ok(t.clone())).unwrap().swap_remove(0);
    let (away, away_dx) = (away(&near.logits, &exact.logits), away(&near.dx, &exact.dx));
    assert!((1e-4..3e-2).contains(&away) && (1e-4..1e-1).contains(&away_dx), "bf16: {away:e} {away_dx:e}");

    let training = training::new(twin(), network.graph_handle()).unwrap();
    let (way, ..) = training.forward(&params, &x).unwrap();
    way.parameter_gradients(&dlogits).unwrap();
    way.image_gradient(&dlogits).unwrap();

    let pixels = |values: [f32; 6]| Tensor::new(&values, &Device::Cpu).unwrap();
    let tensors = [
        pixels([0.1, f32::NAN, 0.98, 0.5, 0.2, 0.0]),
        pixels([1.0, 1.0, 3.0, f32::NAN, 0.0, -1e-30]),
        pixels([0.1, 0.3, 0.98, 0.5, 0.3, 0.0]),
        pixels([0.07, 0.27, 0.95, 0.47, 0.27, -0.03]),
        pixels([0.13, 0.33, 1.01, 0.53, 0.33, 0.03]),
    ];
    let stepped = stepped(twin(), tensors.each_ref(), 0.05).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(stepped, [0.13, 0.3, 1.0, 0.5, 0.27, 0.0]);
    record.lock().unwrap().clone()
}

const SHIM: &str = r"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define __global__
#define __device__
struct Place { unsigned x; };
static Place blockIdx, blockDim, threadIdx;
static unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
static float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
";

const MAIN: &str = r"
struct Argument { unsigned n; float f; double d; void* p; unsigned len, size; bool out; };
static void get(void* p, unsigned n) { if (n && fread(p, n, 1, stdin) != 1) exit(3); }
static unsigned number() { unsigned n; get(&n, 4); return n; }
int main() {
    unsigned launches = number();
    for (unsigned l = 0; l < launches; l++) {
        unsigned kernel = number(), total = number(), count = number();
        Argument a[16] = {};
        for (unsigned i = 0; i < count; i++) {
            unsigned tag = number();
            if (tag == 1) a[i].n = number();
            if (tag == 2) get(&a[i].f, 4);
            if (tag == 3) get(&a[i].d, 8);
            if (tag < 4) continue;
            a[i].size = 2u << (tag - 4) % 3; // bf16, f32, f64
            a[i].len = number();
            a[i].out = tag >= 7;
            a[i].p = calloc(a[i].len + 1, a[i].size);
            if (!a[i].out) get(a[i].p, a[i].len * a[i].size);
        }
        blockDim.x = 96; // no divisor of most totals: the last block has threads to turn away
        for (blockIdx.x = 0; blockIdx.x * blockDim.x < total; blockIdx.x++)
            for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) run(kernel, total, a);
        for (unsigned i = 0; i < count; i++) {
            if (a[i].out) fwrite(a[i].p, a[i].size, a[i].len, stdout);
            free(a[i].p);
        }
    }
}
";

/// Calls a kernel by its number, with its arguments as its signature has them.
fn dispatcher() -> String {
    let mut code = String::from("struct Argument;\nstatic void run(unsigned, unsigned, Argument*);\n");
    code += MAIN;
    code += "static void run(unsigned kernel, unsigned total, Argument* a) {\n    switch (kernel) {\n";
    for (number, kernel) in Kernel::ALL.iter().enumerate() {
        let argument = |(i, parameter): (usize, &String)| match parameter.as_str() {
            "uint" => format!("a[{i}].n"),
            "float" => format!("a[{i}].f"),
            "double" => format!("a[{i}].d"),
            pointer => format!("({pointer})a[{i}].p"),
        };
        let parameters = &SIGNATURES[kernel.name()][1..];
        let arguments: Vec<String> = parameters.iter().enumerate().map(argument).collect();
        writeln!(code, "    case {number}: {}(total, {}); break;", kernel.name(), arguments.join(", "))
            .unwrap();
    }
    code + "    }\n}\n"
}

fn written_down(launches: &[Launched]) -> Vec<u8> {
    let mut bytes = (launches.len() as u32).to_le_bytes().to_vec();
    let memory = |memory: &Memory| match memory {
        Memory::Bf16(values) => {
            (0, values.len() as u32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        Memory::F32(values) => {
            (1, values.len() as u32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        Memory::F64(values) => {
            (2, values.len() as u32, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
        }
    };
    for Launched { kernel, total, arguments } in launches {
        let number = Kernel::ALL.iter().position(|other| other == kernel).unwrap();
        for n in [number as u32, *total as u32, arguments.len() as u32] {
            bytes.extend(n.to_le_bytes());
        }
        for argument in arguments {
            let (tag, payload): (u32, Vec<u8>) = match argument {
                Given::Nothing => (0, vec![]),
                Given::Count(n) => (1, n.to_le_bytes().to_vec()),
                Given::F32(v) => (2, v.to_le_bytes().to_vec()),
                Given::F64(v) => (3, v.to_le_bytes().to_vec()),
                Given::In(values) => {
                    let (wide, len, values) = memory(values);
                    (4 + wide, [len.to_le_bytes().to_vec(), values].concat())
                }
                Given::Out(values) => {
                    let (wide, len, _) = memory(values);
                    (7 + wide, len.to_le_bytes().to_vec())
                }
            };
            bytes.extend(tag.to_le_bytes());
            bytes.extend(payload);
        }
    }
    bytes
}

/// The program that runs launches, or none without a compiler.
fn compiled(folder: &Path) -> Option<std::path::PathBuf> {
    let (source, program) = (folder.join("kernels.cpp"), folder.join("kernels"));
    std::fs::write(&source, [SHIM, SOURCE, &dispatcher()].concat()).unwrap();
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++14", "-O1", "-ffp-contract=off", "-o"]).arg(&program).arg(&source);
    let output = compiler.output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_the_kernels_computes_what_their_twins_do() {
        let launches = launches();
        let missing: Vec<&Kernel> = Kernel::ALL
            .iter()
            .filter(|kernel| launches.iter().all(|launch| launch.kernel != **kernel))
            .collect();
        assert!(missing.is_empty(), "never launched: {missing:?}");
        let folder = tempfile::tempdir().unwrap();
        let Some(program) = compiled(folder.path()) else {
            return eprintln!("SKIPPED: no C++ compiler here to run the kernels' source with");
        };
        let input = folder.path().join("launches");
        std::fs::write(&input, written_down(&launches)).unwrap();
        let output = Command::new(program).stdin(std::fs::File::open(input).unwrap()).output().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        let mut rest = output.stdout.as_slice();
        for Launched { kernel, arguments, .. } in &launches {
            let curved = *kernel == Kernel::SwishBack || arguments.get(4) == Some(&Given::Count(1));
            for (i, argument) in arguments.iter().enumerate() {
                let Given::Out(twin) = argument else { continue };
                let (size, twin): (usize, Vec<f64>) = match twin {
                    Memory::Bf16(values) => (2, values.iter().map(|&v| v.into()).collect()),
                    Memory::F32(values) => (4, values.iter().map(|&v| v.into()).collect()),
                    Memory::F64(values) => (8, values.clone()),
                };
                let (own, after) = rest.split_at(size * twin.len());
                rest = after;
                let value = |bytes: &[u8]| match size {
                    2 => bf16::from_le_bytes(bytes.try_into().unwrap()).into(),
                    4 => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
                    _ => f64::from_le_bytes(bytes.try_into().unwrap()),
                };
                for (place, (own, twin)) in own.chunks(size).map(value).zip(twin).enumerate() {
                    let same = own.to_bits() == twin.to_bits()
                        || curved && (own - twin).abs() <= 2e-6 * twin.abs().max(1e-3);
                    assert!(same, "{kernel:?}, argument {i}, at {place}: {own:e}, its twin {twin:e}");
                }
            }
        }
        assert!(rest.is_empty());
    }
}
