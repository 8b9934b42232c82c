"""A template with its parameters put in: what CloudFormation would make, as far as parameters decide."""

NO_VALUE = {"Ref": "AWS::NoValue"}


def resolve(body, given):
    """The resources that there would be, with conditions decided and parameters replaced by values.

    References to resources, and what only CloudFormation knows, stay as they are.
    """
    resolver = _Resolver(body, given)
    return {
        name: {**resource, "Properties": resolver.put_in(resource.get("Properties", {}))}
        for name, resource in body["Resources"].items()
        if "Condition" not in resource or resolver.holds({"Condition": resource["Condition"]})
    }


def refusals(body, given):
    """Why the template's Rules refuse these parameters; nothing if they do not."""
    resolver = _Resolver(body, given)
    return [
        assertion["AssertDescription"]
        for rule in body.get("Rules", {}).values()
        if "RuleCondition" not in rule or resolver.holds(rule["RuleCondition"])
        for assertion in rule["Assertions"]
        if not resolver.holds(assertion["Assert"])
    ]


class _Resolver:
    def __init__(self, body, given):
        self._values = {}
        for name, declared in body.get("Parameters", {}).items():
            value = str(given.get(name, declared.get("Default", f"value of {name}")))
            is_list = declared["Type"] == "CommaDelimitedList" or declared["Type"].startswith("List<")
            self._values[name] = value.split(",") if is_list else value
        self._conditions = body.get("Conditions", {})
        self._mappings = body.get("Mappings", {})
        self._functions = {
            "Ref": lambda name: self._values.get(name, {"Ref": name}),
            "Fn::If": lambda operand: self.put_in(
                operand[1 if self.holds({"Condition": operand[0]}) else 2]),
            "Fn::FindInMap": lambda operand: self._mappings[operand[0]][self.put_in(operand[1])][operand[2]],
            "Fn::Select": self._select,
            "Fn::Split": self._split,
            "Fn::Sub": self._sub,
        }

    def holds(self, condition):
        """Whether a condition is true."""
        [(function, operand)] = condition.items()
        if function == "Condition":
            return self.holds(self._conditions[operand])
        if function == "Fn::Equals":
            left, right = map(self.put_in, operand)
            return str(left) == str(right)
        if function == "Fn::Contains":
            return self.put_in(operand[1]) in operand[0]
        parts = [self.holds(part) for part in operand]
        return {"Fn::Not": not parts[0], "Fn::And": all(parts), "Fn::Or": any(parts)}[function]

    def put_in(self, node):
        """A value with everything replaced that parameters decide."""
        if isinstance(node, list):
            return [item for item in map(self.put_in, node) if item != NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(function, operand)] = node.items()
            if function in self._functions:
                return self._functions[function](operand)
        found = {key: self.put_in(value) for key, value in node.items()}
        return {key: value for key, value in found.items() if value != NO_VALUE}

    def _select(self, operand):
        index, items = int(operand[0]), self.put_in(operand[1])
        return items[index] if isinstance(items, list) else {"Fn::Select": [operand[0], items]}

    def _split(self, operand):
        text = self.put_in(operand[1])
        return text.split(operand[0]) if isinstance(text, str) else {"Fn::Split": [operand[0], text]}

    def _sub(self, operand):
        if not isinstance(operand, str):
            return {"Fn::Sub": [operand[0], self.put_in(operand[1])]}
        for name, value in self._values.items():
            operand = operand.replace(f"${{{name}}}", str(value))
        return operand if "${" not in operand else {"Fn::Sub": operand}
