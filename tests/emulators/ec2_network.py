"""Where the network of the emulated EC2 leads: a machine reaches only the services that its subnet and address lead to.

A route to an internet gateway serves machines with a public address. A NAT gateway serves all machines, if its own subnet routes
to an internet gateway. What a transit gateway leads to is not emulated: everything. An interface endpoint serves its whole
VPC, in which the name of its service leads to it, so a machine that its security groups do not admit reaches the service in no other
way. A gateway endpoint serves the subnets of its route tables. As EC2 does, an interface endpoint takes one subnet of each zone, also
while a change replaces one: what it removes counts until the change is done. Its private names need a VPC that resolves DNS and host
names, and in which no other endpoint has them; a route table leads to one endpoint of S3. The texts of the errors are EC2's.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.vpcs import VPCBackend

SERVICES = {"sqs": "SQS", "s3": "S3", "ec2": "EC2", "logs": "CLOUDWATCH_LOGS"}


moto_create, moto_modify = VPCBackend.create_vpc_endpoint, VPCBackend.modify_vpc_endpoint


def check_zones(backend, subnets: list[str]) -> None:
    """Refuses two subnets of one zone."""
    zones = set()
    for id in subnets:
        zone = backend.get_subnet(id).availability_zone
        if zone in zones:
            raise EC2ClientError(
                "DuplicateSubnetsInSameZone",
                f"Found another VPC endpoint subnet in the availability zone of {id}. VPC endpoint subnets should be in different "
                "availability zones supported by the VPC endpoint service.",
            )
        zones.add(zone)


def check_names(backend, vpc_id: str, service: str) -> None:
    """Refuses private names of a service that the VPC does not resolve, or that another endpoint has."""
    vpc = backend.get_vpc(vpc_id)
    if not (vpc.enable_dns_support and vpc.enable_dns_hostnames):
        raise EC2ClientError(
            "InvalidParameter",
            "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for "
            f"{vpc_id}",
        )
    for other in backend.vpc_end_points.values():
        if other.state != "deleted" and other.private_dns_enabled and (other.vpc_id, other.service_name) == (vpc_id, service):
            name = f"{service.rsplit('.', 1)[-1]}.{backend.region_name}.amazonaws.com"
            raise EC2ClientError(
                "InvalidParameter",
                f"private-dns-enabled cannot be set because there is already a conflicting DNS domain for {name} in the VPC {vpc_id}",
            )


def check_routes(backend, service: str, tables: list[str]) -> None:
    """Refuses a second gateway endpoint of a service in a route table."""
    for other in backend.vpc_end_points.values():
        shared = set(tables) & set(other.route_table_ids or [])
        if other.state != "deleted" and other.service_name == service and shared:
            raise EC2ClientError(
                "RouteAlreadyExists",
                f"route table {min(shared)} already has a route with destination-prefix-list-id {other.destination_prefix_list_id}",
            )


def create_vpc_endpoint(self, **named):
    check_zones(self, named.get("subnet_ids") or [])
    if named.get("endpoint_type") == "Interface" and named.get("private_dns_enabled"):
        check_names(self, named["vpc_id"], named["service_name"])
    check_routes(self, named["service_name"], named.get("route_table_ids") or [])
    return moto_create(self, **named)


def modify_vpc_endpoint(self, vpc_id, **named):
    """Changes an endpoint, and the routes to it, which moto forgets."""
    endpoint = self.describe_vpc_endpoints(vpc_end_point_ids=[vpc_id])[0]
    added, removed = named.get("add_route_tables") or [], named.get("remove_route_tables") or []
    check_routes(self, endpoint.service_name, [id for id in added if id not in (endpoint.route_table_ids or [])])
    check_zones(self, list(dict.fromkeys([*(endpoint.subnet_ids or []), *(named.get("add_subnets") or [])])))
    moto_modify(self, vpc_id=vpc_id, **named)
    if (list_id := endpoint.destination_prefix_list_id) is not None:
        for id in added:
            self.create_route(id, None, gateway_id=vpc_id, destination_prefix_list_id=list_id)
        for id in removed:
            self.delete_route(id, list_id)


VPCBackend.create_vpc_endpoint, VPCBackend.modify_vpc_endpoint = create_vpc_endpoint, modify_vpc_endpoint


def add_internet_gateway(backend) -> None:
    """Connects the default VPC to the internet, as AWS does and moto does not."""
    vpc = backend.default_vpc
    gateway = backend.create_internet_gateway()
    backend.attach_internet_gateway(gateway.id, vpc.id)
    main = next(table for table in backend.route_tables.values() if table.vpc_id == vpc.id and table.main_association_id)
    backend.create_route(main.id, "0.0.0.0/0", gateway_id=gateway.id)


def table(backend, subnet):
    """Returns the route table of a subnet: its own, or the main one of its VPC."""
    of_vpc = [table for table in backend.route_tables.values() if table.vpc_id == subnet.vpc_id]
    own = [table for table in of_vpc if subnet.id in table._associations.values()]
    return (own or [table for table in of_vpc if table.main_association_id])[0]


def leads_out(backend, subnet, has_address: bool) -> bool:
    for route in table(backend, subnet).routes:
        if route.destination_cidr_block != "0.0.0.0/0":
            continue
        if route.transit_gateway is not None:
            return True
        if route.nat_gateway is not None and route.nat_gateway.state == "available":
            return leads_out(backend, backend.get_subnet(route.nat_gateway.subnet_id), True)
        return has_address and str(route.gateway_id).startswith("igw-")
    return False


def is_admitted(backend, endpoint, instance) -> bool:
    """Returns whether the security groups of an interface endpoint admit HTTPS from a machine."""
    own = {group.id for nic in instance.nics.values() for group in nic.group_set}
    address = ip_address(instance.private_ip)
    rules = [rule for id in endpoint.security_group_ids for rule in backend.get_security_group_from_id(id).ingress_rules]
    return any(
        rule.source_group.get("GroupId") in own or address in ip_network(rule.ip_range.get("CidrIp", "0.0.0.0/32"))
        for rule in rules
        if rule.ip_protocol == "-1" or int(rule.from_port) <= 443 <= int(rule.to_port)
    )


def reached(instance) -> set[str]:
    """Returns the services that a machine reaches, by the names in SERVICES."""
    backend = instance.ec2_backend
    subnet = backend.get_subnet(instance.subnet_id)
    services = set(SERVICES) if leads_out(backend, subnet, bool(instance.public_ip)) else set()
    own = table(backend, subnet).id
    for endpoint in backend.vpc_end_points.values():
        if endpoint.state == "deleted" or endpoint.vpc_id != subnet.vpc_id:
            continue
        service = endpoint.service_name.rsplit(".", 1)[-1]
        if endpoint.vpc_endpoint_type == "Interface" and not is_admitted(backend, endpoint, instance):
            services.discard(service)
        elif endpoint.vpc_endpoint_type == "Interface" or own in (endpoint.route_table_ids or []):
            services.add(service)
    return services
