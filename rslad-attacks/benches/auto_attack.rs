//! AutoAttack on the reference networks, in images a second: whole, and what it saves that fallen examples leave at once.
//!
//! `cargo bench -p rslad-attacks`; `RSLAD_THREADS` says how many threads, `ONLY` a part of a measurement's name.

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use rslad_attacks::{Attack, Ball, Draws, Leave, Problem, ascend, attacks, perturb};
use rslad_models::arch::ArchSpec;
use rslad_models::{Classifier, Frozen, Network};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::time::Instant;

const NETWORKS: [(&str, &str, &str); 2] =
    [("tiny", "tiny_cnn", "width = 16"), ("resnet", "resnet18", "width = 8\nblocks = '2,2,2,2'")];

/// For how long an attack is repeated at least, of which the median counts.
const SECONDS: f64 = 1.0;

fn goldens(file: String) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(file)
}

fn read(name: &str, arch: &str, options: &str) -> rslad_attacks::Result<(Frozen, Problem)> {
    let options = format!("classes = 10\nin_channels = 3\nnorm = 'none'\n{options}");
    let weights = candle_core::safetensors::load(goldens(format!("net_{name}.safetensors")), &Device::Cpu)?;
    let f = Network::with_state_dict(&ArchSpec::parse(arch, &options)?, &weights)?.freeze()?;
    let record = std::fs::read(goldens(format!("attacks_{name}.safetensors"))).expect("a file of this crate");
    let record = SafeTensors::deserialize(&record).expect("a file of this crate");
    let tensor = |name: &str| record.tensor(name).expect("recorded").load(&Device::Cpu);
    let levels = Tensor::new(255.0_f32, &Device::Cpu)?; // `/ 255.0` would multiply by an inverse
    let x_nat = tensor("x_u8")?.to_dtype(DType::F32)?.broadcast_div(&levels)?;
    let labels = tensor("y")?;
    let ids = (0..x_nat.dim(0)? as u64).collect();
    let ball = Ball::new(&x_nat, "8/255".parse()?)?;
    let draws = Draws::Keyed { seed: 0, epoch: 0 };
    Ok((f, Problem::new(ball, &labels.to_dtype(DType::U32)?, ids, draws)?))
}

fn measure(
    what: &str,
    f: &Frozen,
    p: &Problem,
    search: impl Fn() -> rslad_attacks::Result<Tensor>,
) -> rslad_attacks::Result<()> {
    if std::env::var("ONLY").is_ok_and(|only| !what.contains(&only)) {
        return Ok(());
    }
    let (mut x_adv, mut seconds) = (search()?, Vec::new()); // the first run starts threads and makes plans
    while seconds.iter().sum::<f64>() < SECONDS {
        let before = Instant::now();
        x_adv = search()?;
        seconds.push(before.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let seconds = seconds[seconds.len() / 2];
    let predicted = f.logits(&x_adv)?.argmax(1)?.to_vec1::<u32>()?;
    let stand = predicted.into_iter().zip(p.y().to_vec1::<u32>()?).filter(|(p, y)| p == y).count();
    println!(
        "{what:28} {seconds:7.2} s {:8.1} images/s, {stand} of {} stand",
        p.ids().len() as f64 / seconds,
        p.ids().len()
    );
    Ok(())
}

fn main() -> rslad_attacks::Result<()> {
    for (name, arch, options) in NETWORKS {
        let (f, p) = read(name, arch, options)?;
        let whole = attacks::find("auto_attack")?.usually();
        measure(&format!("{name} auto_attack"), &f, &p, || Ok(perturb(&f, whole.as_ref(), &p)?.x_adv))?;
        let pgd = attacks::find("pgd")?.usually();
        measure(&format!("{name} pgd"), &f, &p, || Ok(perturb(&f, pgd.as_ref(), &p)?.x_adv))?;
        for stage in ["apgd_ce", "apgd_t", "fab_t", "square"] {
            let attack: Box<dyn Attack> = attacks::find(stage)?.usually();
            for (leave, how) in [(Leave::AtOnce, "leave at once"), (Leave::AtEnd, "leave at the end")] {
                measure(&format!("{name} {stage}, {how}"), &f, &p, || {
                    ascend(&f, attack.search(&p, leave)?.as_mut(), p.ball(), p.ids())
                })?;
            }
        }
    }
    Ok(())
}
