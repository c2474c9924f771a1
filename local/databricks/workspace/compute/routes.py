"""Serves the Clusters API 2.0 and 2.1 from the books."""

from aiohttp import web

from local.databricks.workspace.compute.model import NODE_TYPES, SPARK_VERSIONS, Cluster, ClusterBook
from local.databricks.workspace.identity.routes import USER_NAME
from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.transport.responses import Handler, json_endpoint

__all__ = ["cluster_routes"]


def cluster_routes(book: ClusterBook) -> list[web.RouteDef]:
    """Return the routes below `/api/2.0/clusters` and `/api/2.1/clusters`."""

    def create(params: Params) -> JsonObject:
        return {"cluster_id": book.create(params.values).cluster_id}

    def get(params: Params) -> JsonObject:
        return _to_json(book.get(params.text("cluster_id")))

    def listing(_: Params) -> JsonObject:
        clusters = book.list()
        return {"clusters": [_to_json(cluster) for cluster in clusters]} if clusters else {}

    def start(params: Params) -> JsonObject:
        book.set_state(params.text("cluster_id"), "RUNNING")
        return {}

    def terminate(params: Params) -> JsonObject:
        book.set_state(params.text("cluster_id"), "TERMINATED")
        return {}

    def remove(params: Params) -> JsonObject:
        book.remove(params.text("cluster_id"))
        return {}

    handlers: dict[tuple[str, str], Handler] = {
        ("POST", "create"): json_endpoint(create),
        ("GET", "get"): json_endpoint(get),
        ("GET", "list"): json_endpoint(listing),
        ("POST", "start"): json_endpoint(start),
        ("POST", "delete"): json_endpoint(terminate),
        ("POST", "permanent-delete"): json_endpoint(remove),
        ("GET", "spark-versions"): json_endpoint(_spark_versions),
        ("GET", "list-node-types"): json_endpoint(_node_types),
    }
    return [
        web.route(method, f"/api/{version}/clusters/{name}", handler)
        for version in ("2.0", "2.1")
        for (method, name), handler in handlers.items()
    ]


def _to_json(cluster: Cluster) -> JsonObject:
    return {
        **cluster.spec,
        "cluster_id": cluster.cluster_id,
        "creator_user_name": USER_NAME,
        "state": cluster.state,
        "state_message": "",
        "start_time": cluster.created_ms,
        "cluster_source": "API",
    }


def _spark_versions(_: Params) -> JsonObject:
    return {"versions": [{"key": key, "name": name} for key, name in SPARK_VERSIONS.items()]}


def _node_types(_: Params) -> JsonObject:
    return {
        "node_types": [
            {
                "node_type_id": name,
                "instance_type_id": name,
                "memory_mb": gibibytes * 1024,
                "num_cores": float(cores),
                "num_gpus": 0,
                "description": name,
                "category": "General Purpose",
                "is_deprecated": False,
                "is_hidden": False,
                "is_io_cache_enabled": True,
                "support_cluster_tags": True,
                "support_ebs_volumes": True,
                "support_port_forwarding": True,
                "photon_driver_capable": True,
                "photon_worker_capable": True,
                "node_info": {"available_core_quota": 100, "total_core_quota": 100, "status": []},
                "node_instance_type": {
                    "instance_type_id": name,
                    "local_disks": 1,
                    "local_disk_size_gb": 150,
                    "local_nvme_disks": 0,
                },
            }
            for name, cores, gibibytes in NODE_TYPES
        ]
    }
