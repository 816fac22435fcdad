//! Where the networks of a command run: what `--device` or `RSLAD_DEVICE` says, else what a recipe says, else
//! on the processor.

use crate::exit::Ended;
use anyhow::Result;
use candle_core::Device;
use rslad_models::device::Precision;
use rslad_models::{DeviceSpec, Error as ModelError, Frozen, Network};

/// The device by name; `recipe` is what a recipe asks for.
pub(crate) fn chosen(recipe: Option<DeviceSpec>) -> Result<DeviceSpec> {
    let given = DeviceSpec::from_environment().map_err(usage)?;
    Ok(given.or(recipe).unwrap_or(DeviceSpec::Cpu))
}

/// The device itself.
pub(crate) fn open(recipe: Option<DeviceSpec>) -> Result<Device> {
    chosen(recipe)?.open().map_err(usage)
}

/// A network in eval mode on the device of the command.
pub(crate) fn frozen(network: &Network) -> Result<Frozen> {
    frozen_on(network, &open(None)?, Precision::F32)
}

/// A network in eval mode on a device.
pub(crate) fn frozen_on(network: &Network, device: &Device, precision: Precision) -> Result<Frozen> {
    match device {
        Device::Cpu => Ok(network.freeze()?),
        _ => Ok(network.to_device(device)?.in_precision(precision).freeze()?),
    }
}

/// A device that is not there is a flag that cannot be followed.
fn usage(error: ModelError) -> anyhow::Error {
    match error {
        ModelError::Other(message) => Ended::Usage(message).into(),
        other => other.into(),
    }
}
