//! Who owns which bucket, computed from who lives.

use lmao_events::Hash;
use lmao_ports::{BUCKETS, NodeId, NodeInfo, Role};

use super::Buckets;

/// The live nodes and the owners of all buckets: the same on every node that sees the same leases.
///
/// Rendezvous hashing (Thaler and Ravishankar 1998): a bucket goes to the worker with the highest hash of both. When
/// a node comes or goes, only its own buckets move. While builds differ in the events that they read, buckets go to the
/// workers that read the fewest: what they write everybody reads. Duties go to those that read the most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    nodes: Vec<NodeInfo>,
    owners: Vec<Option<NodeId>>,
}

impl Table {
    /// The table of these nodes.
    #[must_use]
    pub fn of(nodes: Vec<NodeInfo>) -> Self {
        let workers: Vec<_> = nodes.iter().filter(|node| node.roles.contains(&Role::Worker)).collect();
        let owner = |bucket: u8| {
            let willing = || workers.iter().filter(|node| !node.gave_up.contains(&bucket));
            // While builds differ the older ones write, so that all can read.
            let oldest = willing().map(|node| node.reads).min()?;
            let oldest = willing().filter(|node| node.reads == oldest);
            oldest.map(|node| node.id).max_by_key(|node| (weight(*node, bucket), *node))
        };
        let owners = (0..=u8::MAX).map(owner).collect();
        debug_assert_eq!((0..=u8::MAX).count(), BUCKETS);
        Self { nodes, owners }
    }

    /// The node that works for `bucket`; `None` while no worker lives that can.
    #[must_use]
    pub fn owner(&self, bucket: u8) -> Option<NodeId> {
        self.owners.get(usize::from(bucket)).copied().flatten()
    }

    /// The buckets that `node` works for.
    #[must_use]
    pub fn buckets_of(&self, node: NodeId) -> Buckets {
        (0..=u8::MAX).filter(|bucket| self.owner(*bucket) == Some(node)).collect()
    }

    /// The one node with this role that has the duty `name`; `None` while none with it lives.
    #[must_use]
    pub fn on_duty(&self, role: Role, name: &str) -> Option<NodeId> {
        let willing = self.nodes.iter().filter(|node| node.roles.contains(&role));
        let weight = |node: NodeId| Hash::of(&[node.0.as_bytes(), name.as_bytes()].concat()).0;
        willing.max_by_key(|node| (node.reads, weight(node.id), node.id)).map(|node| node.id)
    }

    /// Who lives.
    #[must_use]
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// Those that own buckets or would.
    pub(crate) fn workers(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().filter(|node| node.roles.contains(&Role::Worker)).map(|node| node.id)
    }

    /// Whether `node` lives.
    #[must_use]
    pub fn lives(&self, node: NodeId) -> bool {
        self.nodes.iter().any(|known| known.id == node)
    }

    /// The newest set of events ([`lmao_events::EVENT_SET`]) that every live node reads: nobody may write a newer one. `None`
    /// while nobody lives.
    #[must_use]
    pub fn everyone_reads(&self) -> Option<u32> {
        self.nodes.iter().map(|node| node.reads).min()
    }
}

fn weight(node: NodeId, bucket: u8) -> [u8; 32] {
    let mut bytes = [0; 17];
    bytes[..16].copy_from_slice(node.0.as_bytes());
    bytes[16] = bucket;
    Hash::of(&bytes).0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;

    fn node(n: u128, roles: &[Role]) -> NodeInfo {
        NodeInfo {
            id: NodeId(Uuid::from_u128(n)),
            name: n.to_string(),
            roles: roles.iter().copied().collect(),
            reads: 1,
            gave_up: BTreeSet::new(),
        }
    }

    fn workers(n: u128) -> Vec<NodeInfo> {
        (0..n).map(|n| node(n, &[Role::Worker])).collect()
    }

    #[test]
    fn buckets_are_spread_over_workers_and_only_over_them() {
        let mut nodes = workers(4);
        nodes.push(node(9, &[Role::Gateway, Role::Projector]));
        let table = Table::of(nodes);
        for n in 0..4 {
            let owned = table.buckets_of(NodeId(Uuid::from_u128(n))).len();
            assert!((32..=96).contains(&owned), "node {n} owns {owned} of 256");
        }
        assert!(table.buckets_of(NodeId(Uuid::from_u128(9))).is_empty());
        assert_eq!(Table::of(vec![]).owner(0), None);
    }

    #[test]
    fn only_the_buckets_of_who_comes_or_goes_move() {
        let (three, four) = (Table::of(workers(3)), Table::of(workers(4)));
        let new = NodeId(Uuid::from_u128(3));
        let moved = (0..=u8::MAX).filter(|bucket| three.owner(*bucket) != four.owner(*bucket));
        assert_eq!(moved.collect::<Buckets>(), four.buckets_of(new));
    }

    #[test]
    fn a_bucket_that_its_owner_gave_up_goes_to_another_and_to_nobody_in_the_end() {
        let before = Table::of(workers(2));
        let mut nodes = workers(2);
        let owner = before.owner(7).unwrap();
        nodes.iter_mut().find(|node| node.id == owner).unwrap().gave_up.insert(7);
        let after = Table::of(nodes.clone());
        assert!(after.owner(7).is_some_and(|other| other != owner));
        assert_eq!(after.owner(8), before.owner(8));
        nodes.iter_mut().for_each(|node| node.gave_up = BTreeSet::from([7]));
        assert_eq!(Table::of(nodes).owner(7), None);
    }

    #[test]
    fn nothing_is_written_that_some_live_node_does_not_read() {
        let mut nodes = workers(2);
        nodes[1].reads = 2;
        let table = Table::of(nodes.clone());
        assert_eq!(table.everyone_reads(), Some(1));
        nodes[0].reads = 3;
        assert_eq!(Table::of(nodes).everyone_reads(), Some(2));
        assert_eq!(Table::of(vec![]).everyone_reads(), None);
    }

    #[test]
    fn while_builds_differ_the_older_ones_write_and_the_newer_ones_project() {
        let mut nodes: Vec<_> = (0..4).map(|n| node(n, &[Role::Worker, Role::Projector])).collect();
        let older: Vec<_> = nodes[..2].iter().map(|node| node.id).collect();
        nodes[2..].iter_mut().for_each(|node| node.reads = 2);
        let table = Table::of(nodes.clone());
        let writes = |table: &Table, bucket| table.owner(bucket).is_some_and(|owner| older.contains(&owner));
        assert!((0..=u8::MAX).all(|bucket| writes(&table, bucket)));
        for duty in ["read_model", "search", "witness"] {
            assert!(table.on_duty(Role::Projector, duty).is_some_and(|node| !older.contains(&node)));
        }
        // What the older ones cannot read is not theirs.
        nodes[..2].iter_mut().for_each(|node| node.gave_up = BTreeSet::from([7]));
        let table = Table::of(nodes.clone());
        assert!(!writes(&table, 7) && writes(&table, 8));
        let table = Table::of(nodes.split_off(2));
        assert_eq!(table.everyone_reads(), Some(2));
        assert!((0..=u8::MAX).all(|bucket| table.owner(bucket).is_some()));
    }

    #[test]
    fn the_places_of_buckets_stay() {
        let table = Table::of(workers(3));
        let owners: Vec<u128> = (0..8).map(|bucket| table.owner(bucket).unwrap().0.as_u128()).collect();
        assert_eq!(owners, [2, 1, 1, 2, 0, 1, 0, 1], "nodes of two builds must agree");
    }
}
