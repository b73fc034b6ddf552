// Command validate-bundle says what is wrong with a bundle for the Operator Lifecycle Manager, by the validators that
// `operator-sdk bundle validate --select-optional suite=operatorframework` runs, and ends with 1 where there is anything.
package main

import (
	"fmt"
	"os"

	"github.com/operator-framework/api/pkg/manifests"
	"github.com/operator-framework/api/pkg/validation"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: validate-bundle FOLDER")
		os.Exit(64)
	}
	bundle, err := manifests.GetBundleFromDir(os.Args[1])
	if err != nil {
		fmt.Println("Error:", err)
		os.Exit(1)
	}
	validators := validation.DefaultBundleValidators.WithValidators(
		validation.OperatorHubV2Validator, validation.StandardCapabilitiesValidator,
		validation.StandardCategoriesValidator, validation.ObjectValidator, validation.GoodPracticesValidator,
	)
	wrong := 0
	objects := bundle.ObjectsToValidate()
	for _, result := range validators.Validate(objects...) {
		for _, problem := range append(result.Errors, result.Warnings...) {
			fmt.Println(problem.Error())
			wrong++
		}
	}
	fmt.Printf("%d objects, %d problems\n", len(objects), wrong)
	if wrong > 0 {
		os.Exit(1)
	}
}
