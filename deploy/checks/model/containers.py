"""What runs in a task: the containers that were reviewed, from the images that the roll-out pushed."""

# Containers of a task → the parameter that names the image of each.
TASKS = (
    {"tracker": "TrackerImage", "metrics-agent": "AgentImage"},
    {"core-data": "TrackerImage"},
)


def judge(system):
    """Containers that no task has, or that run another image."""
    for task in system.of_type("AWS::ECS::TaskDefinition"):
        containers = {str(one.get("Name")): one for one in task.get("ContainerDefinitions", [])}
        images = max(TASKS, key=lambda known, containers=containers: len(set(known) & set(containers)))
        for name in sorted(set(containers) - set(images)):
            yield task.finding(f"runs the container {name} with the task's role; only {' and '.join(images)} may run")
        for name in sorted(set(images) - set(containers)):
            yield task.finding(f"has no container {name}")
        if len(containers) != len(task.get("ContainerDefinitions", [])):
            yield task.finding("has two containers of one name")
        for name in sorted(set(images) & set(containers)):
            image, expected = containers[name].get("Image"), system.parameters.get(images[name])
            if image != expected:
                yield task.finding(f"the image of {name} is {image}, expected {images[name]}: {expected}")
