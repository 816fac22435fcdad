//! `rslad grid submit --engine`: what schedulers are given, whether or not one is here.

use super::support::{Did, Place};
use std::fs;

const GRID: &str = "schema = 1\nname = 'two runs'\ntitle = 'Two'\n\
    [[cell]]\nkind = 'train'\nname = 'sat'\nrecipe = 'digits/resnet18-sat'\nseed = 0\n\
    [[cell]]\nkind = 'train'\nname = 'rslad'\nrecipe = 'digits/resnet18-rslad'\nseed = 0\n\
    teacher = { cell = 'sat', checkpoint = 'best' }\n\
    [[cell]]\nkind = 'train'\nname = 'natural'\nrecipe = 'digits/resnet18-natural'\nseed = 0\n";

const CLUSTER: &str = "partition = 'gpu'\ntime = '1:00:00'\ngpus = 2\ncpus = 4\nat_once = 3\nmodules = ['cuda/12']\n\
    container = 'apptainer exec my.sif'\nprogram = 'rslad'\nsetup = ['source env.sh']\noptions = ['--qos=long']\n";

fn place() -> Place {
    let place = Place::new();
    fs::write(place.at("grid.toml"), GRID).unwrap();
    fs::write(place.at("cluster.toml"), CLUSTER).unwrap();
    place
}

fn shown(place: &Place, engine: &str) -> String {
    let words = ["grid", "submit", "grid.toml", "--out", "my out", "--dry-run", "--cluster", "cluster.toml"];
    let did = place.rslad(&[&words[..], &["--engine", engine]].concat()).ok();
    assert!(!place.at("my out").exists(), "a dry run writes nothing");
    did.out
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn slurm_is_given_an_array_for_cells_that_wait_for_the_same_and_a_report_after_all() {
    let text = shown(&place(), "slurm");
    has(
        &text,
        &[
            "#SBATCH --job-name='two runs'",
            "#SBATCH --partition=gpu\n",
            "#SBATCH --time=1:00:00\n",
            "#SBATCH --gpus=2\n",
            "#SBATCH --cpus-per-task=4\n",
            "#SBATCH --qos=long\n",
            "#SBATCH --signal=B:TERM@120\n",
            "#SBATCH --requeue\n",
            "module load cuda/12\n",
            "source env.sh\n",
            "my out' --wait &\n",
            "apptainer exec my.sif rslad cell ",
            "scontrol requeue \"$task\"",
            "job0=$(sbatch --parsable --array=0,2%3 cells.sh)",
            "job1=$(sbatch --parsable --array=1%3 --dependency=afterany:${job0}_0 cells.sh)",
            "sbatch --parsable --dependency=afterany:${job0}:${job1} report.sh",
            "exec apptainer exec my.sif rslad grid report ",
        ],
    );
    let report = text.split("report.sh <<").nth(1).unwrap();
    assert!(!report.split("END_OF_REPORT\n").next().unwrap().contains("--gpus"), "a report needs no GPU");
}

#[test]
fn gnu_parallel_is_given_waves_of_cells_and_a_gpu_for_each_slot() {
    let text = shown(&place(), "parallel");
    has(
        &text,
        &[
            "\nrun 0 2\nrun 1\n",
            "--jobs 3",
            "joblog.tsv --termseq TERM,60000,KILL,25",
            "CUDA_VISIBLE_DEVICES=",
            "--wait --index {}",
            "RSLAD_THREADS=4",
        ],
    );
}

#[test]
fn hyperqueue_is_given_a_task_for_each_cell() {
    let text = shown(&place(), "hq");
    let job: toml::Table = text.parse().unwrap();
    let tasks = job["task"].as_array().unwrap();
    let deps: Vec<String> = tasks.iter().map(|t| format!("{}: {}", t["id"], t["deps"])).collect();
    assert_eq!(deps, ["0: []", "2: []", "1: [0]"]);
    assert_eq!(tasks[0]["request"][0]["resources"]["gpus/nvidia"].as_integer(), Some(2));
    assert_eq!(tasks[2]["command"].as_array().unwrap().last().unwrap().as_str(), Some("1"));
}

#[test]
fn a_template_of_the_user_replaces_ours_and_a_wrong_one_is_told_where() {
    let place = place();
    let submit = |template: &str| {
        fs::write(place.at("mine.jinja"), template).unwrap();
        let words = ["grid", "submit", "grid.toml", "--out", "out", "--engine", "slurm", "--dry-run"];
        place.rslad(&[&words[..], &["--template", "mine.jinja"]].concat())
    };
    let did = submit("#!/bin/sh\n# mine: {{ task }} of {{ name | quote }}\n").ok();
    has(&did.out, &["# mine: cells of 'two runs'", "# mine: report of 'two runs'"]);
    let wrong = submit("a\n{{ nothing.here }}\n");
    assert!(wrong.code == 2 && wrong.err.contains("mine.jinja") && wrong.err.contains(":2"), "{wrong:?}");
}

#[test]
fn what_an_engine_needs_and_what_it_does_not_take_is_said() {
    let place = place();
    let submit = |words: &[&str]| {
        let all = [&["grid", "submit", "grid.toml", "--out", "out"], words].concat();
        let mut command = place.command(&all);
        let did: Did = command.env("PATH", place.at("nowhere")).output().unwrap().into();
        did
    };
    for (words, expected) in [
        (&["--engine", "slurm"][..], "sbatch: cannot be started"),
        (&["--engine", "parallel"], "parallel: cannot be started"),
        (&["--engine", "hq"], "hq: cannot be started"),
        (&["--cluster", "cluster.toml"], "--cluster is for engines that render a script"),
        (&["--engine", "slurm", "--cluster", "none.toml"], "none.toml: cannot be read"),
    ] {
        let did = submit(words);
        assert!(did.code == 2 && did.err.contains(expected), "{words:?}: {did:?}");
    }
}

/// A program that stands for `sbatch`: it writes down what it is given, and counts.
#[cfg(unix)]
fn with_sbatch(place: &Place) -> String {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir(place.at("bin")).unwrap();
    let script = "#!/bin/sh\necho \"$*\" >> calls\nexpr 100 + $(grep -c . calls)\n";
    fs::write(place.at("bin/sbatch"), script).unwrap();
    fs::set_permissions(place.at("bin/sbatch"), fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", place.at("bin").display(), std::env::var("PATH").unwrap())
}

#[cfg(unix)]
#[test]
fn sbatch_is_called_once_a_group_and_what_is_missing_is_still_an_error() {
    let place = place();
    let path = with_sbatch(&place);
    let submit = |out: &str| -> Did {
        let _ = fs::remove_file(place.at("calls"));
        let words = ["grid", "submit", "grid.toml", "--out", out, "--engine", "slurm"];
        place.command(&words).env("PATH", &path).output().unwrap().into()
    };
    let calls = || {
        let calls = fs::read_to_string(place.at("calls")).unwrap();
        let words = calls.lines().map(|call| call.rsplit_once(' ').unwrap().0.to_string());
        words.collect::<Vec<_>>()
    };
    let did = submit("out").ok();
    assert_eq!(did.out.trim(), "101 102 103");
    assert_eq!(
        calls(),
        [
            "--parsable --array=0,2",
            "--parsable --array=1 --dependency=afterany:101_0",
            "--parsable --dependency=afterany:101:102"
        ]
    );
    assert!(fs::read_to_string(place.at("out/jobs/slurm-cells.sh")).unwrap().contains("--wait &"));

    let missing = GRID.replace("{ cell = 'sat', checkpoint = 'best' }", "{ file = 'no.pt' }");
    fs::write(place.at("grid.toml"), missing).unwrap();
    let did = submit("out");
    assert!(did.code == 4 && did.err.contains("no.pt: no such file"), "{did:?}");
    assert_eq!(
        calls(),
        ["--parsable --array=0,2", "--parsable --dependency=afterany:101"],
        "the others go on"
    );
}
