//! One Redis's own account: its `CLUSTER NODES` table and the `INFO` fields that matter.
//!
//! Written from Redis's documentation, on purpose without the product's parser.
//! Does not: judge; see `truth`.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context, Result, bail};
use redis::{FromRedisValue, Pipeline, Value};

use crate::{Pod, client::parse_address};

/// A line of `CLUSTER NODES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The node's ID.
    pub id: String,
    /// Address and port as written; `None` for an empty or unreadable one.
    pub address: Option<SocketAddr>,
    /// The flags, `myself` included.
    pub flags: Vec<String>,
    /// The master's ID of a replica.
    pub master: Option<String>,
    /// The config epoch.
    pub epoch: u64,
    /// Whether the bus link is `connected`.
    pub connected: bool,
    /// Owned slots as inclusive ranges, in order.
    pub slots: Vec<(u16, u16)>,
    /// Slots on their way in or out, as written.
    pub open_slots: Vec<String>,
}

impl Line {
    /// Whether `flag` is set.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [
            id,
            address,
            flags,
            master,
            _ping,
            _pong,
            epoch,
            link,
            rest @ ..,
        ] = fields.as_slice()
        else {
            bail!("a line of CLUSTER NODES with too few fields: {line:?}");
        };
        let (slots, open) = rest
            .iter()
            .partition::<Vec<&str>, _>(|word| !word.starts_with('['));
        let address = address.split(',').next().unwrap_or_default();
        let address = address
            .rsplit_once('@')
            .map_or(address, |(before, _)| before);
        Ok(Self {
            id: (*id).to_owned(),
            address: parse_address(address),
            flags: flags.split(',').map(str::to_owned).collect(),
            master: (*master != "-").then(|| (*master).to_owned()),
            epoch: epoch
                .parse()
                .with_context(|| format!("epoch in {line:?}"))?,
            connected: *link == "connected",
            slots: slots.into_iter().map(parse_range).collect::<Result<_>>()?,
            open_slots: open.into_iter().map(str::to_owned).collect(),
        })
    }
}

fn parse_range(word: &str) -> Result<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let range = (first.parse()?, last.parse()?);
    Ok(range)
}

/// What one Redis says.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its own ID.
    pub id: String,
    /// Its table.
    pub nodes: Vec<Line>,
    /// `CLUSTER INFO`.
    pub cluster: BTreeMap<String, String>,
    /// `INFO`.
    pub info: BTreeMap<String, String>,
}

impl Account {
    /// Asks the Redis of `pod`, all in one go.
    ///
    /// # Errors
    /// When it does not answer, or answers with an error (LOADING, NOAUTH, ...).
    pub async fn ask(pod: &Pod) -> Result<Self> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("CLUSTER").arg("MYID");
        pipeline.cmd("CLUSTER").arg("NODES");
        pipeline.cmd("CLUSTER").arg("INFO");
        pipeline.cmd("INFO");
        let mut answers = pod.pipeline(&pipeline).await?.into_iter();
        let mut next = || text(answers.next());
        Self::read(&next()?, &next()?, &next()?, &next()?)
    }

    /// From the texts of `CLUSTER MYID`, `CLUSTER NODES`, `CLUSTER INFO` and `INFO`.
    ///
    /// # Errors
    /// When the table is none.
    pub fn read(id: &str, nodes: &str, cluster: &str, info: &str) -> Result<Self> {
        Ok(Self {
            id: id.to_owned(),
            nodes: nodes
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(Line::parse)
                .collect::<Result<_>>()?,
            cluster: fields(cluster),
            info: fields(info),
        })
    }

    /// Its own line.
    #[must_use]
    pub fn myself(&self) -> Option<&Line> {
        self.nodes.iter().find(|line| line.id == self.id)
    }

    /// A field of `INFO`, empty if missing.
    #[must_use]
    pub fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    /// Who owns what, in its eyes: sorted, only owners.
    #[must_use]
    pub fn owners(&self) -> Vec<(&str, &[(u16, u16)])> {
        let mut owners: Vec<_> = self
            .nodes
            .iter()
            .filter(|line| !line.slots.is_empty())
            .map(|line| (line.id.as_str(), line.slots.as_slice()))
            .collect();
        owners.sort_unstable();
        owners
    }
}

fn text(value: Option<Value>) -> Result<String> {
    let value = value.context("an answer is missing")?.extract_error()?;
    Ok(String::from_redis_value(value)?)
}

/// `name:value` lines.
pub(crate) fn fields(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn lines_of_every_version_are_read() -> anyhow::Result<()> {
        let old = "07c3 127.0.0.1:30004@31004 slave,fail? e7d1 0 1426238317239 4 disconnected";
        let line = Line::parse(old)?;
        assert_eq!(line.address, Some("127.0.0.1:30004".parse()?));
        assert!(line.has("fail?") && !line.connected);
        assert_eq!(line.master.as_deref(), Some("e7d1"));

        let new = "e7d1 fd00::7:6379@16379,name,tls-port=0,shard-id=aa myself,master - 0 0 1 \
                   connected 0-5460 5462 [93->-292f]";
        let line = Line::parse(new)?;
        assert_eq!(line.address, Some("[fd00::7]:6379".parse()?));
        assert_eq!(line.slots, [(0, 5460), (5462, 5462)]);
        assert_eq!(line.open_slots, ["[93->-292f]"]);

        let gone = Line::parse("e7d1 :0@0 master,noaddr - 0 0 1 disconnected")?;
        assert_eq!(gone.address, None);
        Ok(())
    }
}
