//! Eval mode: a snapshot of a network that can be asked for logits and input gradients, nothing else.

use super::engine::{Engine, Executor, Threads};
use super::plan::{Hold, Plan, Plans};
use super::program::Mode;
use super::reference::{self, Statistics};
use super::runner::Runner;
use super::weights::{Weights, with_values};
use crate::classifier::{Classifier, Gradient, Objective, pull_back};
use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::Isa;
use crate::network::Network;
use candle_core::{DType, Device, Tensor, Var};
use std::sync::Arc;

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
}

/// Plans with weights.
#[derive(Clone, Debug)]
struct Compiled {
    isa: Isa,
    threads: Threads,
    plans: Arc<Plans>,
    weights: Weights,
}

impl Frozen {
    pub(crate) fn new(network: &Network) -> Result<Self> {
        Self::with_engine(network, Engine::from_environment()?)
    }

    /// A snapshot that runs on a given engine, whatever the environment says.
    ///
    /// # Errors
    /// When copying the weights fails.
    pub fn with_engine(network: &Network, engine: Engine) -> Result<Self> {
        let graph = network.graph_handle();
        let plans = |isa| Some((isa, Plans::new(&graph, Mode::Eval)?));
        let compiled = match engine.executor {
            Executor::Plan(isa) if network.dtype() == DType::F32 => plans(isa),
            _ => None,
        };
        let body = match compiled {
            None => Body::Reference(Vec::new()),
            Some((isa, plans)) => Body::Compiled(Compiled {
                isa,
                threads: Threads::new(engine.threads)?,
                weights: Weights::new(&graph, &plans.program, isa),
                plans: Arc::new(plans),
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
        let store = network.params();
        let params = (0..store.entries().len()).map(|i| store.var(i).as_detached_tensor());
        match &mut self.body {
            Body::Reference(own) => *own = params.map(|p| p.copy()).collect::<candle_core::Result<_>>()?,
            Body::Compiled(c) => {
                c.weights.fill(&self.graph, &c.plans.program, &params.collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }
}

impl Classifier for Frozen {
    fn n_classes(&self) -> usize {
        self.graph.n_classes()
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        match &self.body {
            Body::Reference(params) => reference::run(&self.graph, params, x, Statistics::Running),
            Body::Compiled(compiled) => {
                reference::check_images(&self.graph, x)?;
                compiled.logits(&self.graph, x)
            }
        }
    }

    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> Result<Gradient> {
        match &self.body {
            Body::Reference(params) => {
                let x = Var::from_tensor(&x.detach())?;
                let logits = reference::run(&self.graph, params, x.as_tensor(), Statistics::Running)?;
                pull_back(&x, &logits, objective)
            }
            Body::Compiled(compiled) => {
                reference::check_images(&self.graph, x)?;
                compiled.gradient(&self.graph, x, objective)
            }
        }
    }
}

/// Bytes of one value that a group of images may take: it should stay in the second-level cache.
const GROUP_BYTES: usize = 2 << 20;

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
                let count = logits.len() / classes;
                let mut values = plan.buffers(Hold::Passing, size);
                let runner = self.runner(&plan);
                runner.import(images, &mut values);
                runner.forward(0..self.plans.program.steps.len(), count, &mut values);
                runner.logits(&values, logits);
                plan.give_back([values]);
            });
        })?;
        Ok(Tensor::from_vec(logits, (n, classes), &Device::Cpu)?)
    }

    fn gradient(&self, graph: &Graph, x: &Tensor, objective: &dyn Objective) -> Result<Gradient> {
        let (n, c, h, w) = x.dims4()?;
        let plan = self.plans.get(graph, h, w)?;
        let (threads, size) = self.groups(&plan, n, 2 * plan.multiply_adds);
        let mut dx = vec![0.0; n * c * h * w];
        let answers = with_values(x, |pixels| {
            let slices = pixels.chunks(size * c * h * w).zip(dx.chunks_mut(size * c * h * w));
            let mut groups: Vec<_> = slices.map(|(images, dx)| (images, dx, None)).collect();
            threads.each(&mut groups, |i, (images, dx, answer)| {
                let rows = (i * size) as u32..((i + 1) * size).min(n) as u32;
                *answer = Some(self.group(&plan, rows, images, dx, objective));
            });
            groups.into_iter().filter_map(|(_, _, answer)| answer).collect::<Result<Vec<_>>>()
        })??;
        let (logits, losses): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        Ok(Gradient {
            logits: Tensor::cat(&logits, 0)?,
            loss: Tensor::cat(&losses, 0)?,
            dx: Tensor::from_vec(dx, (n, c, h, w), &Device::Cpu)?,
        })
    }

    /// Forward, objective and backward of a group of images; returns its logits and losses.
    fn group(
        &self,
        plan: &Plan,
        rows: std::ops::Range<u32>,
        images: &[f32],
        dx: &mut [f32],
        objective: &dyn Objective,
    ) -> Result<(Tensor, Tensor)> {
        let (program, runner, count) = (&self.plans.program, self.runner(plan), rows.len());
        let classes = program.values.last().map_or(0, |v| v.channels);
        let mut values = plan.buffers(Hold::Values, count);
        runner.import(images, &mut values);
        runner.forward(0..program.steps.len(), count, &mut values);
        let mut logits = vec![0.0; count * classes];
        runner.logits(&values, &mut logits);
        let logits = Tensor::from_vec(logits, (count, classes), &Device::Cpu)?;
        let (loss, dlogits) = objective.value_and_grad(&rows.collect::<Vec<_>>(), &logits)?;
        let mut gradients = plan.buffers(Hold::Gradients, count);
        with_values(&dlogits.to_dtype(DType::F32)?, |d| runner.import_gradient(d, &mut gradients))?;
        plan.moves.iter().for_each(|go| runner.back(go, count, &values, &mut gradients));
        runner.export_gradient(&gradients, dx);
        plan.give_back([values, gradients]);
        Ok((logits, loss))
    }

    /// The threads for `n` images and how many images each takes at a time. A result never depends on
    /// either.
    fn groups(&self, plan: &Plan, n: usize, multiply_adds: u64) -> (Threads, usize) {
        let threads = self.threads.for_work(n as u64 * multiply_adds);
        let cached = (GROUP_BYTES / plan.largest()).clamp(1, n);
        let groups = n.div_ceil(cached).next_multiple_of(threads.count());
        (threads, n.div_ceil(groups))
    }

    fn runner<'a>(&'a self, plan: &'a Plan) -> Runner<'a> {
        Runner { isa: self.isa, program: &self.plans.program, plan, weights: &self.weights, batch: &[] }
    }
}
