//! What can be fetched, and where it lies.

/// A file somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its name here.
    pub name: String,
    /// Its bytes, where they are known.
    pub size: Option<u64>,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Its addresses in the order in which they are asked.
    pub urls: Vec<String>,
}

/// One form of a data set: the files that make it whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The files.
    pub files: Vec<RemoteFile>,
}

/// A data set that can be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Fetchable {
    /// Its name, as in a data spec.
    pub name: &'static str,
    /// All its forms, the preferred one first.
    pub offers: fn() -> Vec<Offer>,
}

/// Every data set that can be fetched.
pub const FETCHABLE: &[Fetchable] = &[
    Fetchable { name: "cifar10", offers: cifar10 },
    Fetchable { name: "cifar100", offers: cifar100 },
    Fetchable { name: "fashion-mnist", offers: fashion_mnist },
];

/// The address under which [`Environment::hub`](super::Environment::hub) may put another one.
pub(super) const HUB: &str = "https://huggingface.co";

/// The authors' host by its present address, which answers directly, then by its old one, which redirects.
const TORONTO: [&str; 2] = ["https://cave.cs.toronto.edu/kriz", "https://www.cs.toronto.edu/~kriz"];

const FASHION_MNIST: [&str; 2] = [
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion",
];

fn cifar10() -> Vec<Offer> {
    let hub = "uoft-cs/cifar10/resolve/0b2714987fa478483af9968de7c934580d0bb9a2/plain_text";
    vec![
        Offer {
            files: vec![mirrored(
                &TORONTO,
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            )],
        },
        of_hub(
            hub,
            "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
            "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
        ),
    ]
}

fn cifar100() -> Vec<Offer> {
    vec![
        Offer {
            files: vec![mirrored(
                &TORONTO,
                "cifar-100-binary.tar.gz",
                168_513_733,
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            )],
        },
        of_hub(
            "uoft-cs/cifar100/resolve/main/cifar100",
            "694865d6b990e234804f01268586c41e88bcbbb75e20858432c05ad4081aca23",
            "98776c529bb146a9c791229df74a5cf076be9b43d82dbbd334b6a7788d73dc68",
        ),
    ]
}

fn fashion_mnist() -> Vec<Offer> {
    let file = |name, size, sha256| mirrored(&FASHION_MNIST, name, size, sha256);
    vec![Offer {
        files: vec![
            file(
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            file(
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            file(
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            file(
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ],
    }]
}

fn mirrored(mirrors: &[&str], name: &str, size: u64, sha256: &str) -> RemoteFile {
    RemoteFile {
        name: name.to_owned(),
        size: Some(size),
        sha256: sha256.to_owned(),
        urls: mirrors.iter().map(|mirror| format!("{mirror}/{name}")).collect(),
    }
}

fn of_hub(folder: &str, train: &str, test: &str) -> Offer {
    let file = |split: &str, sha256: &str| {
        let name = format!("{split}-00000-of-00001.parquet");
        let urls = vec![format!("{HUB}/datasets/{folder}/{name}")];
        RemoteFile { name, size: None, sha256: sha256.to_owned(), urls }
    };
    Offer { files: vec![file("train", train), file("test", test)] }
}

impl Offer {
    /// The same files, looked for at another place first.
    pub fn with_mirror(mut self, base: &str) -> Self {
        for file in &mut self.files {
            file.urls.insert(0, format!("{}/{}", base.trim_end_matches('/'), file.name));
        }
        self
    }
}
