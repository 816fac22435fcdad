//! The script in `docs` that loads a student into plain PyTorch gives our logits there. It needs a Python
//! with torch and safetensors: `$RSLAD_PYTHON`, else `python3`; without one the test says so and passes.

use crate::common::{images_of, path, relative_error, scrambled, values};
use candle_core::{DType, Device};
use rslad_models::checkpoint::Provenance;
use rslad_models::{ArchSpec, Classifier};
use std::collections::HashMap;
use std::io::Write;
use std::process::Command;

const PROGRAM: &str = "
import sys
sys.path[:0] = sys.argv[4:]
import torch
from load_student import load
from make_extra import BasicBlock, ResNet
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
f = load(sys.argv[1], ResNet(BasicBlock, (1, 2, 1, 1), 4, 10))
save_file({'logits': f(load_file(sys.argv[2])['x']).detach().contiguous()}, sys.argv[3])
";

fn python(program: &str) -> Command {
    let mut command = Command::new(std::env::var_os("RSLAD_PYTHON").unwrap_or("python3".into()));
    command.args(["-W", "ignore", "-c", program]).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[test]
fn the_script_in_docs_gives_our_logits_in_pytorch() {
    let has_torch = python("import torch, safetensors, numpy").output().is_ok_and(|did| did.status.success());
    if !has_torch {
        // Past the capture of test output: a test that was not run must be seen.
        let said = "\nthe_script_in_docs_gives_our_logits_in_pytorch skipped: set RSLAD_PYTHON to a Python with torch, \
                    numpy and safetensors to run it\n";
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let options = "width = 4\nblocks = '1,2,1,1'\nnorm = 'cifar10'".parse().unwrap();
    let network = scrambled(&ArchSpec::published("resnet18", &options).unwrap(), 3000);
    network.save(&at("student.safetensors"), &Provenance::new()).unwrap();
    let x = images_of(77, [5, 3, 16, 16]);
    candle_core::safetensors::save(&HashMap::from([("x", x.clone())]), at("x.safetensors")).unwrap();

    let mut command = python(PROGRAM);
    command.args(["student.safetensors", "x.safetensors", "theirs.safetensors"].map(at));
    let did = command.args([path("../../../docs"), path("")]).output().unwrap();
    assert!(did.status.success(), "{}", String::from_utf8_lossy(&did.stderr));
    let theirs = candle_core::safetensors::load(at("theirs.safetensors"), &Device::Cpu).unwrap();
    let ours = network.in_double_precision().unwrap().freeze().unwrap();
    let ours = ours.logits(&x.to_dtype(DType::F64).unwrap()).unwrap();
    let error = relative_error(&values(&theirs["logits"]), &values(&ours));
    assert!(error < 1e-5, "logits are off by {error:e} of the largest");
}
