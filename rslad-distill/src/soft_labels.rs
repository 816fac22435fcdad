//! A teacher's answers on disk: asked once for each image, crop and flip, and shared by every run with the
//! same teacher and data.
//!
//! A padding of 4 with flips has 162 views of an image, of which 300 epochs show some 137: more than half
//! of a teacher's work is repetition, and runs with other seeds or students repeat it all. Because a
//! frozen network gives an image the same bits in any batch, a run with the cache is the same to the bit.
//!
//! A cache is a folder named by what its answers depend on. In it each process appends to a segment of
//! its own and reads those of all; every record carries a checksum, so that a torn or damaged one is
//! asked for again and nothing needs repair.

use crate::error::{Error, Result};
use crate::method::{Plan, Point, Who};
use candle_core::{DType, Device, Tensor};
use rslad_data::{Augment, Batch};
use rslad_models::{Classifier, Engine, durable};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

mod segment;
use segment::{Record, Segment};

/// What a teacher's answers depend on.
#[derive(Clone, Debug)]
pub struct Source {
    /// The teacher: the hash of its file, and its normalization where that is not the file's.
    pub teacher: String,
    /// The hash of the training split, of which a run may hold a part out.
    pub data_sha256: String,
    /// How many images that split has; their ids are below this.
    pub images: usize,
    /// The views of an image.
    pub augment: Augment,
    /// The teacher's classes.
    pub classes: usize,
}

/// What a cache has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Answers that were there.
    pub found: u64,
    /// Answers for which the teacher ran.
    pub computed: u64,
}

/// The answers of one teacher about one data set, filled as they are asked for.
#[derive(Debug)]
pub struct SoftLabels {
    source: Source,
    folder: PathBuf,
    limit: u64,
    store: Mutex<Store>,
}

#[derive(Debug)]
struct Store {
    segments: Vec<Segment>,
    /// The segment that this process writes to; none once writing has failed.
    own: Option<usize>,
    /// For each view of each image, where its answer is.
    places: Vec<Place>,
    asked: Asked,
}

/// A record of a segment; `NOWHERE` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    segment: u32,
    record: u32,
}

const NOWHERE: Place = Place { segment: u32::MAX, record: u32::MAX };

impl SoftLabels {
    /// Opens the cache of a source under `root`, creating it if need be. Its files together stay below
    /// `limit` bytes: once full, it answers what it holds and keeps nothing more.
    ///
    /// # Errors
    /// When the folder cannot be created or read.
    pub fn open(root: &Path, source: Source, limit: u64) -> Result<Self> {
        let about = source.about()?;
        let address: String = Sha256::digest(&about).iter().take(16).map(|b| format!("{b:02x}")).collect();
        let folder = root.join(address);
        let io = |source| Error::Io { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(io)?;
        let note = folder.join("about.txt");
        if !note.exists() {
            durable::write(&note, about.as_bytes())?;
        }
        let mut places = vec![NOWHERE; source.images * source.augment.n_views()];
        let (mut segments, mut own) = (Vec::new(), None);
        for path in segment::paths(&folder).map_err(io)? {
            let (segment, records) = Segment::open(&path, source.classes, own.is_none()).map_err(io)?;
            let number = segments.len() as u32;
            for Record { slot, record } in records {
                if let Some(place) = places.get_mut(slot as usize) {
                    *place = Place { segment: number, record };
                }
            }
            if segment.is_own() {
                own = Some(segments.len());
            }
            segments.push(segment);
        }
        if own.is_none() {
            own = Some(segments.len());
            segments.push(Segment::create(&folder, source.classes).map_err(io)?);
        }
        let store = Mutex::new(Store { segments, own, places, asked: Asked::default() });
        Ok(Self { source, folder, limit, store })
    }

    /// Why a method cannot use a cache, if it cannot: what is kept are answers about clean images.
    pub fn refusal(method: &str, plan: &Plan) -> Option<String> {
        let asks = |point_is: fn(Point) -> bool| {
            plan.forwards().any(|f| matches!(f.who, Who::Teacher | Who::SecondTeacher) && point_is(f.point))
        };
        if asks(|point| point != Point::Nat) {
            return Some(format!(
                "method {method} asks a teacher at points of the attack, which no cache of soft labels holds; \
                 remove --soft-labels"
            ));
        }
        (!plan.forwards().any(|f| f.who == Who::Teacher))
            .then(|| format!("method {method} has no teacher to keep soft labels of; remove --soft-labels"))
    }

    /// The folder of this source.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has done since it was opened.
    pub fn asked(&self) -> Asked {
        self.lock().asked
    }

    /// The teacher's logits for a batch: those that are there from disk, the others computed and kept.
    ///
    /// # Shapes
    /// Returns `[N, K]`, f32.
    ///
    /// # Errors
    /// When the teacher fails. A cache that cannot be read or written any more is a warning, and the
    /// teacher is asked.
    pub fn logits(&self, teacher: &dyn Classifier, batch: &Batch) -> Result<Tensor> {
        let slots: Vec<Option<u64>> =
            batch.ids().iter().zip(batch.views()).map(|(&id, &view)| self.source.slot(id, view)).collect();
        let mut store = self.lock();
        let mut rows: Vec<Option<Vec<f32>>> = slots.iter().map(|slot| store.read((*slot)?)).collect();
        let missing: Vec<u32> =
            (0u32..).zip(&rows).filter(|(_, row)| row.is_none()).map(|(i, _)| i).collect();
        store.asked.found += (rows.len() - missing.len()) as u64;
        store.asked.computed += missing.len() as u64;
        if !missing.is_empty() {
            let x = match missing.len() == rows.len() {
                true => batch.x().clone(),
                false => batch.x().index_select(&Tensor::new(missing.as_slice(), batch.x().device())?, 0)?,
            };
            let answers =
                teacher.logits(&x)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2::<f32>()?;
            let new: Vec<(u64, &[f32])> = missing
                .iter()
                .zip(&answers)
                .filter_map(|(&row, answer)| Some((slots[row as usize]?, answer.as_slice())))
                .collect();
            store.keep(&new, self.limit);
            for (row, answer) in missing.into_iter().zip(answers) {
                rows[row as usize] = Some(answer);
            }
        }
        let n = rows.len();
        let values: Vec<f32> = rows.into_iter().flatten().flatten().collect();
        Ok(Tensor::from_vec(values, (n, self.source.classes), batch.x().device())?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Everything that an answer depends on, in words: its hash is the address.
    fn about(&self) -> Result<String> {
        let Self { teacher, data_sha256, images, augment, classes } = self;
        Ok(format!(
            "soft labels, format {}\nteacher {teacher}\ndata {data_sha256}, {images} images\n\
             views: crop {}, flip {:?}\nclasses {classes}\ncomputed by rslad {} on {:?}\n",
            segment::FORMAT,
            augment.crop,
            augment.flip,
            env!("CARGO_PKG_VERSION"),
            Engine::from_environment()?.executor, // other kernels round otherwise
        ))
    }

    fn slot(&self, id: u64, view: rslad_data::View) -> Option<u64> {
        let (images, views) = (self.images as u64, self.augment.n_views() as u64);
        (id < images).then(|| id * views + self.augment.index(view) as u64)
    }
}

impl Store {
    /// The answer for a view of an image, if there is one and it is whole.
    fn read(&mut self, slot: u64) -> Option<Vec<f32>> {
        let place = *self.places.get(slot as usize).filter(|place| **place != NOWHERE)?;
        let answer = self.segments[place.segment as usize].read(place.record, slot);
        if answer.is_none() {
            self.places[slot as usize] = NOWHERE; // damaged since it was written
        }
        answer
    }

    fn keep(&mut self, new: &[(u64, &[f32])], limit: u64) {
        let Some(own) = self.own else { return };
        let used: u64 = self.segments.iter().map(Segment::len).sum();
        let room = limit.saturating_sub(used) / self.segments[own].record_len();
        let new = &new[..new.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if new.is_empty() {
            return;
        }
        match self.segments[own].append(new) {
            Ok(first) => {
                for (&(slot, _), record) in new.iter().zip(first..) {
                    self.places[slot as usize] = Place { segment: own as u32, record };
                }
            }
            Err(error) => {
                tracing::warn!("soft labels are kept no longer: {error}");
                self.own = None;
            }
        }
    }
}
