//! Graphs.

use super::pointers::Out;
use crate::run::lock;

super::exports! {
    fn cuGraphCreate(graph: Out<usize>, _flags: u32) {
        let nodes = Default::default();
        graph.set(lock().graphs.insert(crate::graphs::Graph { nodes }))
    }

    fn cuGraphClone(clone: Out<usize>, graph: usize) {
        let mut driver = lock();
        let copy = driver.graphs.get(graph)?.clone();
        clone.set(driver.graphs.insert(copy))
    }

    fn cuGraphDestroy(graph: usize) {
        lock().graphs.remove(graph).map(drop)
    }

    fn cuGraphGetNodes(graph: usize, nodes: Out<usize>, count: Out<usize>) {
        let driver = lock();
        let number = driver.graphs.get(graph)?.nodes.len();
        if nodes.address() != 0 {
            return Err(crate::status::Status::ERROR_NOT_SUPPORTED);
        }
        count.set(number)
    }

    fn cuGraphInstantiateWithFlags(executable: Out<usize>, graph: usize, flags: u64) {
        executable.set(lock().instantiate(graph, flags)?)
    }

    fn cuGraphUpload(executable: usize, stream: usize) {
        let mut driver = lock();
        driver.stream(stream)?;
        driver.executables.get(executable).map(drop)
    }

    fn cuGraphLaunch(executable: usize, stream: usize) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        driver.graph_launch(executable, stream)
    }

    fn cuGraphExecUpdate_v2(executable: usize, graph: usize, _result: usize) {
        lock().update(executable, graph)
    }

    fn cuGraphExecDestroy(executable: usize) {
        lock().executables.remove(executable).map(drop)
    }
}
