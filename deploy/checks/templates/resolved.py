"""A template with its parameters put in: what CloudFormation would make, as far as parameters decide."""

NO_VALUE = {"Ref": "AWS::NoValue"}


def resolve(body, given):
    """The resources that there would be, with conditions decided and parameters replaced by values.

    References to resources, and what only CloudFormation knows, stay as they are.
    """
    values = {name: str(given.get(name, declared.get("Default", f"value of {name}")))
              for name, declared in body.get("Parameters", {}).items()}
    lists = {name for name, declared in body.get("Parameters", {}).items()
             if declared["Type"] == "CommaDelimitedList" or declared["Type"].startswith("List<")}
    conditions = body.get("Conditions", {})
    mappings = body.get("Mappings", {})

    def holds(condition):
        [(function, operand)] = condition.items()
        if function == "Condition":
            return holds(conditions[operand])
        if function == "Fn::Not":
            return not holds(operand[0])
        if function == "Fn::And":
            return all(map(holds, operand))
        if function == "Fn::Or":
            return any(map(holds, operand))
        left, right = (put_in(one) for one in operand)
        return str(left) == str(right)

    def put_in(node):
        if isinstance(node, list):
            return [put_in(item) for item in node if put_in(item) != NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(function, operand)] = node.items()
            if function == "Ref" and operand in values:
                return values[operand].split(",") if operand in lists else values[operand]
            if function == "Fn::If":
                name, yes, no = operand
                return put_in(yes if holds(conditions[name]) else no)
            if function == "Fn::FindInMap":
                name, first, second = operand
                return mappings[name][put_in(first)][put_in(second)]
            if function == "Fn::Select" and isinstance(put_in(operand[1]), list):
                index, items = int(operand[0]), put_in(operand[1])
                return items[index] if index < len(items) else ""
            if function == "Fn::Split" and isinstance(put_in(operand[1]), str):
                return put_in(operand[1]).split(operand[0])
            if function == "Fn::Sub" and isinstance(operand, str):
                for name, value in values.items():
                    operand = operand.replace(f"${{{name}}}", value)
                return operand if "${" not in operand else {function: operand}
        found = {key: put_in(value) for key, value in node.items()}
        return {key: value for key, value in found.items() if value != NO_VALUE}

    return {
        name: {**resource, "Properties": put_in(resource.get("Properties", {}))}
        for name, resource in body["Resources"].items()
        if "Condition" not in resource or holds(conditions[resource["Condition"]])
    }
