//! What an agent reads and writes on its pod's volume.

use super::fake::volume::{Damage, Settings};
use super::world::World;
use redis_sidecar::model::decision::Action;
use redis_sidecar::model::observation::NodesFile;

/// What a Redis that runs has written, or the last one did; read when it has changed.
pub(crate) fn nodes_conf_of(world: &mut World, pod: usize) -> NodesFile {
    let p = &mut world.pods[pod];
    let Some(node) = &p.node else {
        return file_left(world, pod);
    };
    let written = (p.starts, node.saves);
    if let Some((read, file)) = &p.file_read
        && *read == written
    {
        return file.clone();
    }
    let file = read_file(&node.nodes_conf_text());
    p.file_read = Some((written, file.clone()));
    file
}

fn file_left(world: &World, pod: usize) -> NodesFile {
    let p = &world.pods[pod];
    if p.disk.damage == Damage::Torn {
        return NodesFile::Torn("its last line is cut off".to_owned());
    }
    let settings = Settings::of(&world.layout);
    let text = p.disk.nodes_conf_text(settings, world.wall(pod));
    text.map_or(NodesFile::Missing, |text| read_file(&text))
}

fn read_file(text: &str) -> NodesFile {
    match text.parse() {
        Ok(conf) => NodesFile::Read(conf),
        Err(error) => NodesFile::Torn(error.to_string()),
    }
}

/// Whether one of the agent's own files is written, if it is about one; and what the agent notes of it.
pub(crate) fn fit_on_the_volume(world: &mut World, pod: usize, action: &Action) -> bool {
    let p = &mut world.pods[pod];
    let full = p.volume_full.then(|| "No space left on device".to_owned());
    let Some(agent) = &mut p.agent else {
        return true;
    };
    let error = match action {
        Action::Remember(_) => &mut agent.note_error,
        Action::KeepConf(_) | Action::RestoreConf { .. } => &mut agent.conf_error,
        _ => return true,
    };
    error.clone_from(&full);
    full.is_none()
}
