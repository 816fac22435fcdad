use super::*;

/// A machine of files that are made as they are named, removed when it goes.
struct Fake {
    root: PathBuf,
    here: Here,
}

impl Fake {
    fn new(name: &str, files: &[&str], variables: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("xtask-cuda-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root); // of a test that was killed
        std::fs::create_dir_all(&root).unwrap();
        for file in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul\n")
                .unwrap();
        }
        let absolute = |value: &str| {
            let paths = value.split(':').map(|path| root.join(path));
            std::env::join_paths(paths).unwrap().into_string().unwrap()
        };
        let variables = variables.iter().map(|(k, v)| ((*k).to_string(), absolute(v))).collect();
        let run = |program: &Path, _: &[&str]| match program.file_name()?.to_str()? {
            "nvcc" => Some("Cuda compilation tools, release 12.8, V12.8.93\n".to_string()),
            "nvidia-smi" => Some("NVIDIA H100 80GB HBM3, 9.0\nNVIDIA A100-SXM4-40GB, 8.0\n".to_string()),
            _ => None,
        };
        let here = Here { root: root.clone(), variables, run, venv: Some(root.join("venv")) };
        Self { root, here }
    }

    fn look(&self, cap: Option<&str>) -> Found {
        Found::look(&self.here, cap)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

const COMPILER: [&str; 5] = [
    "bin/nvcc",
    "nvvm/bin/cicc",
    "include/crt/host_config.h",
    "include/cuda_runtime.h",
    "include/cuda/std/a",
];

fn below(folder: &str) -> Vec<String> {
    COMPILER.iter().map(|file| format!("{folder}/{file}")).collect()
}

fn line<'f>(findings: &'f [Finding], topic: &str) -> &'f Finding {
    findings.iter().find(|finding| finding.topic == topic).unwrap()
}

#[test]
fn an_empty_machine_is_told_how_to_begin() {
    let fake = Fake::new("empty", &[], &[]);
    let found = fake.look(None);
    assert_eq!(found.compiler_missing().as_deref(), Some("nvcc"));
    let findings = found.findings(&["nccl"]);
    assert!(findings.iter().all(|finding| finding.standing == Standing::Missing && finding.fix.is_some()));
    assert!(
        line(&findings, "compiler").fix.as_ref().unwrap().contains("pip install 'nvidia-cuda-nvcc==13.0.*'")
    );
    let loader = line(&findings, "loader");
    assert!(
        loader.found.contains("libcuda.so.1, libcudart.so.13") && loader.found.ends_with("libcudnn.so.9")
    );
    assert!(loader.fix.as_ref().unwrap().contains("error while loading shared libraries: libcuda.so.1:"));
    assert!(line(&findings, "gpu").found.contains("no NVIDIA driver"));
}

#[test]
fn a_whole_machine_is_found_wherever_its_parts_lie() {
    let mut files = below("opt/cuda");
    files.extend(["bin/c++", "bin/nvidia-smi", "proc/driver/nvidia/version"].map(String::from));
    for name in ["cudart", "cublas", "cublasLt", "nvrtc"] {
        files.push(format!("opt/cuda/lib64/lib{name}.so"));
        files.push(format!("opt/cuda/lib64/lib{name}.so.12"));
    }
    files.extend(
        ["opt/cuda/lib64/stubs/libcuda.so", "usr/lib/x86_64-linux-gnu/libcuda.so.1"].map(String::from),
    );
    files.extend(["opt/cuda/lib64/libcurand.so", "opt/cuda/lib64/libcurand.so.10"].map(String::from));
    files.extend(
        ["usr/lib/x86_64-linux-gnu/libcudnn.so", "usr/lib/x86_64-linux-gnu/libcudnn.so.9"].map(String::from),
    );
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let fake = Fake::new("whole", &files, &[("PATH", "bin"), ("LD_LIBRARY_PATH", "opt/cuda/lib64")]);
    let found = fake.look(None);
    let findings = found.findings(&["nccl"]);
    let wrong: Vec<&str> =
        findings.iter().filter(|f| f.standing != Standing::Here).map(|f| &f.found[..]).collect();
    assert!(wrong.is_empty() && found.compiler_missing().is_none() && found.has_gpu(), "{wrong:?}");
    assert_eq!(found.cap(), Some("90"));
    assert!(line(&findings, "compiler").found.starts_with("nvcc 12.8 in "));
    assert!(line(&findings, "gpu").found.contains("A100-SXM4-40GB (capability 80); driver 580.65.06"));
    assert_eq!(fake.look(Some("80")).cap(), Some("80"));
}

#[test]
fn a_compiler_from_a_registry_compiles_and_needs_stubs_to_link() {
    let mut files = below("venv/lib/python3.12/site-packages/nvidia/cu13");
    files.extend(
        ["bin/g++", "venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcudart.so"].map(String::from),
    );
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let fake = Fake::new("registry", &files, &[("PATH", "bin")]);
    let found = fake.look(Some("90"));
    assert_eq!(found.compiler_missing(), None);
    let missing =
        |without: &[&str]| found.unlinkable(without).iter().map(|library| library.name).collect::<Vec<_>>();
    assert_eq!(missing(&["nccl"]), ["cuda", "cublas", "cublasLt", "curand", "nvrtc", "cudnn"]);
    assert_eq!(missing(&["cudnn", "nccl"]), ["cuda", "cublas", "cublasLt", "curand", "nvrtc"]);
    let findings = found.findings(&["nccl"]);
    assert!(line(&findings, "linker").fix.as_ref().unwrap().contains("--stubs"));
}

#[test]
fn parts_of_a_compiler_that_are_missing_are_named() {
    let fake = Fake::new(
        "parts",
        &["opt/cuda/bin/nvcc", "opt/cuda/include/cuda_runtime.h"],
        &[("CUDA_HOME", "opt/cuda")],
    );
    let missing = fake.look(None).compiler_missing().unwrap();
    assert!(missing.contains("nvidia-nvvm") && missing.contains("nvidia-cuda-cccl"), "{missing}");
    assert!(!missing.contains("cuda_runtime.h"), "{missing}");
}

#[test]
fn releases_are_read_from_what_nvcc_says() {
    let told = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 13.0, V13.0.88\nBuild";
    assert_eq!(release(told), Some((13, 0)));
    assert_eq!(release("gcc 12"), None);
}
