//! The published files by their SHA-256, and by the MD5 that they were published with where nothing else is
//! known: what a file of ours is compared with. That it is none of them is worth a note and no more: people
//! keep subsets, other codecs and their own copies.

const PUBLISHED: [&str; 24] = [
    // cifar-10-binary.tar.gz and cifar-10-python.tar.gz
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    // cifar-100-binary.tar.gz and cifar-100-python.tar.gz
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    // data_batch_1.bin to data_batch_5.bin, test_batch.bin
    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    // train.bin and test.bin of CIFAR-100
    "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
    "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    // the hub's parquet files: uoft-cs/cifar10 train and test, uoft-cs/cifar100 train and test
    "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
    "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
    "694865d6b990e234804f01268586c41e88bcbbb75e20858432c05ad4081aca23",
    "98776c529bb146a9c791229df74a5cf076be9b43d82dbbd334b6a7788d73dc68",
    // MD5: data_batch_1 to data_batch_5, test_batch of the python archive
    "c99cafc152244af753f735de768cd75f",
    "d4bba439e000b95fd0a9bffe97cbabec",
    "54ebc095f3ab1f0389bbae665268c751",
    "634d18415352ddfa80567beed471001a",
    "482c414d41f54cd18b22e5b47cb7c3cb",
    "40351d587109b95175f43aff81a1287e",
    // MD5: train and test of the python archive of CIFAR-100
    "16019d7e3df5f24257cddd939b257f8d",
    "f0ef6b0ae62326f3e7ffdfab6717acfc",
];

/// Whether a file is one of the published ones.
pub(super) fn is_published(hash: &str) -> bool {
    PUBLISHED.contains(&hash)
}
