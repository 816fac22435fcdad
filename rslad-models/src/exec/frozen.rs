//! Eval mode: a snapshot of a network that can be asked for logits and input gradients, nothing else.

use super::again::{Recall, Way};
use super::device::{self, Eval};
use super::engine::{Engine, Executor, Threads};
use super::plan::{Hold, Plan, Plans};
use super::program::Mode;
use super::reference::{self, Statistics};
use super::runner::Runner;
use super::weights::{Weights, with_values};
use crate::classifier::{Classifier, Gradient, Memory, Objective, pull_back};
use crate::device::{Precision, beside};
use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::Isa;
use crate::kernels::conv::Panels;
use crate::network::Network;
use candle_core::{DType, Device, Tensor, Var};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A network in eval mode: running statistics, no parameter gradients, no buffers to update.
///
/// It is a snapshot: training the network afterwards does not change it until [`Frozen::refresh`].
#[derive(Clone, Debug)]
pub struct Frozen {
    graph: Arc<Graph>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Reference(Vec<Tensor>),
    Compiled(Compiled),
    OnDevice(Device, Arc<dyn Eval>),
}

/// Plans with weights.
#[derive(Clone, Debug)]
struct Compiled {
    isa: Isa,
    threads: Threads,
    plans: Arc<Plans>,
    weights: Weights,
    /// No two sets of weights have the same number: what is remembered of one is of no use with another.
    generation: u64,
}

static GENERATIONS: AtomicU64 = AtomicU64::new(0);

impl Frozen {
    pub(crate) fn new(network: &Network, precision: Precision) -> Result<Self> {
        Self::with(network, Engine::from_environment()?, precision)
    }

    /// A snapshot that runs on a given engine, whatever the environment says.
    ///
    /// # Errors
    /// When copying the weights fails.
    pub fn with_engine(network: &Network, engine: Engine) -> Result<Self> {
        Self::with(network, engine, network.precision())
    }

    fn with(network: &Network, engine: Engine, precision: Precision) -> Result<Self> {
        let graph = network.graph_handle();
        let plans = |isa| Some((isa, Plans::new(&graph, Mode::Eval)?));
        let compiled = match engine.executor {
            Executor::Plan(isa) if network.dtype() == DType::F32 && network.device().is_cpu() => plans(isa),
            _ => None,
        };
        let body = match compiled {
            None => match device::eval(engine.executor, network, precision, &network.params().present())? {
                Some(eval) => {
                    return Ok(Self { graph, body: Body::OnDevice(network.device().clone(), eval) });
                }
                None => Body::Reference(Vec::new()),
            },
            Some((isa, plans)) => Body::Compiled(Compiled {
                isa,
                threads: Threads::new(engine.threads)?,
                weights: Weights::new(&graph, &plans.program, isa),
                plans: Arc::new(plans),
                generation: 0, // before there are any
            }),
        };
        let mut frozen = Self { graph, body };
        frozen.refresh(network)?;
        Ok(frozen)
    }

    /// What the network is.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Takes the network's present weights and statistics.
    ///
    /// # Errors
    /// When copying fails.
    ///
    /// # Panics
    /// When `network` has another graph than the one that was frozen.
    pub fn refresh(&mut self, network: &Network) -> Result<()> {
        assert!(*self.graph == *network.graph(), "a frozen view follows the network it was made from");
        let params = network.params().present();
        match &mut self.body {
            Body::Reference(own) => {
                *own = params.iter().map(Tensor::copy).collect::<candle_core::Result<_>>()?
            }
            Body::OnDevice(_, eval) => *eval = eval.with(&params)?,
            Body::Compiled(c) => {
                let Compiled { threads, plans, weights, generation, .. } = c;
                *generation = 1 + GENERATIONS.fetch_add(1, Ordering::Relaxed);
                threads.within(|| weights.fill(&self.graph, &plans.program, &params, threads))?;
            }
        }
        Ok(())
    }
}

impl Classifier for Frozen {
    fn n_classes(&self) -> usize {
        self.graph.n_classes()
    }

    fn device(&self) -> Device {
        match &self.body {
            Body::Reference(params) => params[0].device().clone(),
            Body::Compiled(_) => Device::Cpu,
            Body::OnDevice(device, _) => device.clone(),
        }
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        match &self.body {
            Body::Reference(params) => {
                let own = beside(x, &params[0])?;
                beside(&reference::run(&self.graph, params, &own, Statistics::Running)?, x)
            }
            Body::Compiled(compiled) => {
                reference::check_images(&self.graph, x)?;
                compiled.logits(&self.graph, x)
            }
            Body::OnDevice(device, eval) => {
                reference::check_images(&self.graph, x)?;
                beside(&eval.logits(&x.to_device(device)?)?, x)
            }
        }
    }

    fn logits_again(&self, ids: &[u64], x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        let Body::Compiled(compiled) = &self.body else { return self.logits(x) };
        reference::check_images(&self.graph, x)?;
        compiled.logits_again(&self.graph, ids, x, memory)
    }

    fn gradients(&self, x: &Tensor, objectives: &[&dyn Objective]) -> Result<Vec<Gradient>> {
        match &self.body {
            Body::Reference(params) => {
                let own = Var::from_tensor(&beside(&x.detach(), &params[0])?)?;
                let logits = reference::run(&self.graph, params, own.as_tensor(), Statistics::Running)?;
                objectives.iter().map(|objective| pull_back(&own, &logits, x.device(), *objective)).collect()
            }
            Body::Compiled(compiled) => {
                reference::check_images(&self.graph, x)?;
                compiled.gradients(&self.graph, x, objectives)
            }
            Body::OnDevice(device, eval) => {
                reference::check_images(&self.graph, x)?;
                eval.gradients(&x.to_device(device)?, objectives, &|t| beside(t, x))
            }
        }
    }

    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> Result<Gradient> {
        Ok(self.gradients(x, &[objective])?.pop().expect("one objective has one gradient"))
    }
}

/// Least images of a group: enough to use each weight of the last layers more than once.
const GROUP: usize = 16;
/// Multiply-adds of a call that is over before a thread that wakes late counts for little: a few milliseconds.
const BRIEF: u64 = 1 << 28;
/// In such a call each thread has so many groups, of so many images at least, that the others can take over. Not where
/// Winograd's algorithm runs, which transforms its weights for every group.
const BRIEF_GROUPS: (usize, usize) = (4, 8);

impl Compiled {
    fn logits(&self, graph: &Graph, x: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let plan = self.plans.get(graph, h, w)?;
        let (threads, size) = self.groups(&plan, n, plan.multiply_adds);
        let classes = graph.n_classes();
        let mut logits = vec![0.0; n * classes];
        with_values(x, |pixels| {
            let images = pixels.chunks(size * c * h * w);
            let mut groups: Vec<_> = images.zip(logits.chunks_mut(size * classes)).collect();
            threads.each(&mut groups, |_, (images, logits)| {
                let mut buffers = plan.buffers(Hold::Passing, size);
                let mut values = buffers.whole(&plan, logits.len() / classes);
                let runner = self.runner(&plan, &[]);
                runner.import(images, &mut values);
                runner.forward(0..self.plans.program.steps.len(), &mut values, |_| ());
                runner.logits(&values, logits);
                plan.give_back([buffers]);
            });
        })?;
        Ok(Tensor::from_vec(logits, (n, classes), &Device::Cpu)?)
    }

    fn logits_again(&self, graph: &Graph, ids: &[u64], x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let plan = self.plans.get(graph, h, w)?;
        let (threads, size) = self.groups(&plan, n, plan.multiply_adds);
        let way = Way { runner: self.runner(&plan, &[]), generation: self.generation, shape: [c, h, w] };
        let recall = if ids.len() == n { Recall::of(memory, &way, ids, size) } else { None };
        let Some(recall) = recall else { return self.logits(graph, x) };
        let logits = with_values(x, |pixels| recall.logits(&way, &threads, ids, pixels))?;
        Ok(Tensor::from_vec(logits, (n, graph.n_classes()), &Device::Cpu)?)
    }

    /// One forward, and a way back for each objective.
    fn gradients(&self, graph: &Graph, x: &Tensor, objectives: &[&dyn Objective]) -> Result<Vec<Gradient>> {
        let (n, c, h, w) = x.dims4()?;
        let plan = self.plans.get(graph, h, w)?;
        let (threads, size) = self.groups(&plan, n, (1 + objectives.len() as u64) * plan.multiply_adds);
        let runner = self.runner(&plan, self.weights.backward(&self.plans.program, &self.threads));
        let mut dx = vec![vec![0.0; n * c * h * w]; objectives.len()];
        let answers = with_values(x, |pixels| {
            let mut slices: Vec<_> = dx.iter_mut().map(|dx| dx.chunks_mut(size * c * h * w)).collect();
            let group = |images| (images, slices.iter_mut().filter_map(Iterator::next).collect(), None);
            let mut groups: Vec<(&[f32], Vec<&mut [f32]>, _)> =
                pixels.chunks(size * c * h * w).map(group).collect();
            threads.each(&mut groups, |i, (images, dx, answer)| {
                let rows = (i * size) as u32..((i + 1) * size).min(n) as u32;
                *answer = Some(of_group(&runner, rows, images, dx, objectives));
            });
            groups.into_iter().filter_map(|(_, _, answer)| answer).collect::<Result<Vec<_>>>()
        })??;
        let (logits, losses): (Vec<_>, Vec<Vec<Tensor>>) = answers.into_iter().unzip();
        let logits = Tensor::cat(&logits, 0)?;
        let gradient = |(i, dx): (usize, Vec<f32>)| {
            let losses: Vec<&Tensor> = losses.iter().map(|group| &group[i]).collect();
            Ok(Gradient {
                logits: logits.clone(),
                loss: Tensor::cat(&losses, 0)?,
                dx: Tensor::from_vec(dx, (n, c, h, w), &Device::Cpu)?,
            })
        };
        dx.into_iter().enumerate().map(gradient).collect()
    }

    /// The threads for `n` images and how many images each takes at a time. A result never depends on
    /// either.
    fn groups(&self, plan: &Plan, n: usize, multiply_adds: u64) -> (Threads, usize) {
        let work = n as u64 * multiply_adds;
        let threads = self.threads.for_work(work);
        let winograd = plan.sweeps.iter().any(|sweeps| sweeps.tiles[0].is_some());
        let finer = match work < BRIEF && threads.count() > 1 && !winograd {
            true => (n / BRIEF_GROUPS.1).min(BRIEF_GROUPS.0 * threads.count()),
            false => 0,
        };
        let groups = n.div_ceil(plan.cached.max(GROUP)).max(finer).next_multiple_of(threads.count());
        (threads, n.div_ceil(groups))
    }

    fn runner<'a>(&'a self, plan: &'a Plan, backward: &'a [Vec<Panels>]) -> Runner<'a> {
        let Self { isa, plans, weights, .. } = self;
        Runner { isa: *isa, program: &plans.program, plan, weights, backward, batch: &[] }
    }
}

/// Forward, objectives and ways back of a group of images; returns its logits and losses.
fn of_group(
    runner: &Runner<'_>,
    rows: std::ops::Range<u32>,
    images: &[f32],
    dx: &mut [&mut [f32]],
    objectives: &[&dyn Objective],
) -> Result<(Tensor, Vec<Tensor>)> {
    let (Runner { program, plan, .. }, count) = (runner, rows.len());
    let classes = program.values.last().map_or(0, |v| v.channels);
    let hold = if objectives.len() > 1 { Hold::WaysBack } else { Hold::WayBack };
    let mut buffers = plan.buffers(hold, count);
    let mut part = buffers.whole(plan, count);
    runner.import(images, &mut part);
    runner.forward(0..program.steps.len(), &mut part, |_| ());
    let mut logits = vec![0.0; count * classes];
    runner.logits(&part, &mut logits);
    let logits = Tensor::from_vec(logits, (count, classes), &Device::Cpu)?;
    let (rows, acts): (Vec<u32>, Vec<usize>) = (rows.collect(), (0..plan.acts.len()).collect());
    let mut losses = Vec::with_capacity(objectives.len());
    for (objective, dx) in objectives.iter().zip(dx) {
        let (loss, dlogits) = objective.value_and_grad(&rows, &logits)?;
        let dlogits = dlogits.to_dtype(DType::F32)?;
        with_values(&dlogits, |d| runner.import_gradient(d, &mut part))?;
        runner.back(&acts, &mut part, |_, _, _| (), |_| ());
        runner.export_gradient(&part, dx);
        losses.push(loss);
    }
    plan.give_back([buffers]);
    Ok((logits, losses))
}
